"""Configurations for a new task before any trial, from past tasks that are like it.

The performance of a configuration on the new task is predicted as a weighted mean of its
performance on the past tasks; a similarity (``metahpo.similarity``) gives the weights. Further
configurations cover what the earlier ones may miss, as in a portfolio.

Notation: t past tasks, n candidate configurations.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from metahpo.archive import Archive
from metahpo.similarity import (
    Distance,
    EqualWeights,
    GaussianKernel,
    LearnedMetric,
    Neighbours,
    Similarity,
    default_kglasso,
    ranked,
)
from metahpo.suggest.aligned_history import expected_space
from metahpo.suggest.portfolio import greedy_portfolio
from metahpo.surrogate.gp.past_models import PastModels
from metahpo.tasks.alignment import AlignedTask, align
from metahpo.tasks.space import Array, Configuration, Space
from metahpo.tasks.task import Task

METHODS: Mapping[str, Callable[[int], Similarity]] = {
    "kglasso": lambda seed: default_kglasso(),
    "knn": lambda seed: Neighbours(10, shrinkage=0.6),
    "vote": lambda seed: Neighbours(10),
    "cosine": lambda seed: Neighbours(15, Distance.COSINE, shrinkage=0.6),
    "kernel": lambda seed: GaussianKernel(quantile=0.05),
    "metric": lambda seed: LearnedMetric(seed=seed),
    "portfolio": lambda seed: EqualWeights(),
}
# Where the past tasks tried at least as many configurations in common, those are compared as
# they were observed; otherwise models of the past tasks predict each other's best ones.
SHARED = 20
BEST_PER_TASK = 5
# The share of the candidates that a past task votes for, and what scores count beside votes.
VOTED = 0.1
TIE = 1e-3
# Past tasks and meta-features that a recommendation names.
NAMED = 5


@dataclass(frozen=True)
class Evidence:
    """What a past task says about a configuration.

    Attributes:
        task: Its name.
        weight: How much it counts; all weights sum to 1.
        score: The configuration's performance there: 0 for the worst candidate, 1 for the best.
    """

    task: str
    weight: float
    score: float


@dataclass(frozen=True)
class Recommendation:
    """A configuration to try.

    Attributes:
        configuration: What to try.
        score: Predicted performance: 0 for the worst candidate, 1 for the best.
        evidence: The past tasks behind it, heaviest first.
    """

    configuration: Configuration
    score: float
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class Recommendations(Sequence[Recommendation]):
    """Configurations to try, in this order, and why.

    Attributes:
        items: The recommendations.
        method: The similarity's name.
        past_tasks: Names and weights of all past tasks, heaviest first.
        metafeatures: The meta-features that decided, with shares that sum to 1, largest first;
            none where past tasks counted alike.
    """

    items: tuple[Recommendation, ...]
    method: str
    past_tasks: tuple[tuple[str, float], ...]
    metafeatures: tuple[tuple[str, float], ...]

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Recommendation: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Recommendation, ...]: ...

    def __getitem__(self, index: int | slice) -> Recommendation | tuple[Recommendation, ...]:
        return self.items[index]

    @property
    def configurations(self) -> list[Configuration]:
        """What to try, as for ``study.enqueue_trial``."""
        return [item.configuration for item in self.items]


def recommend(
    task: Task | Mapping[str, float],
    archive: Archive | str | os.PathLike[str] | Iterable[Task],
    k: int = 5,
    method: str = "kglasso",
    *,
    seed: int = 0,
) -> Recommendations:
    """Configurations for a task before any trial.

    Args:
        task: The new task: its meta-features, as ``metafeatures.extract`` gives them, or a
            ``Task`` with its search space too. Without a space it is the one that most past
            tasks like it have.
        archive: Past tasks, or where they are.
        k: How many configurations; fewer where the past has fewer.
        method: ``"kglasso"``, ``"knn"``, ``"vote"`` (each of the nearest tasks votes for its
            best configurations), ``"cosine"``, ``"kernel"``, ``"metric"``, or
            ``"portfolio"``, which does not look at meta-features.
        seed: Of the learned metric and of models of past tasks.

    Raises:
        ValueError: For a ``k`` below 1, an unknown method, or an archive without a task that
            has anything in common with the space.
        ArchiveError: Where there is no archive.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    described = task.metafeatures if isinstance(task, Task) else task
    past = [other for other in _tasks(archive) if other.observed and not _same(other, task)]
    space = task.space if isinstance(task, Task) and len(task.space) else None
    space = space or expected_space(past, described)
    aligned = [(other, view) for other in past if space and (view := align(other, space))]
    if space is None or not aligned:
        raise ValueError("the archive has no task with observed trials in this search space")
    tasks, views = zip(*aligned, strict=True)
    points, scores = candidates(views, space, seed)
    similarity = METHODS[method](seed)
    similarity.fit([other.metafeatures for other in tasks], ranked(scores))
    return _recommendations(
        [other.name for other in tasks],
        space.decode(points),
        scores,
        similarity.weights(described),
        k,
        method,
        similarity.importance,
    )


def _tasks(archive: Archive | str | os.PathLike[str] | Iterable[Task]) -> list[Task]:
    if isinstance(archive, str | os.PathLike):
        archive = Archive(archive)
    return list(archive)


def _same(past: Task, task: Task | Mapping[str, float]) -> bool:
    """Whether a past task is the new one itself, which must not tell its own results."""
    return isinstance(task, Task) and (past.name, past.created) == (task.name, task.created)


def choose(scores: Array, weights: Array, k: int, *, vote: bool = False) -> list[int]:
    """Candidates in the order to try them: a portfolio of the weighted past tasks.

    Args:
        scores: t x n.
        weights: t that sum to 1; what is below 0 tells where not to look, and covers nothing.
        k: How many.
        vote: Whether a past task only says which candidates are its best; ties go to the
            better scores.
    """
    if vote:
        best = np.quantile(scores, 1.0 - VOTED, axis=1, keepdims=True)
        scores = (scores >= best) + TIE * scores
    first = int(np.argmax(weights @ scores))
    positive = np.maximum(weights, 0.0)
    if k == 1 or not positive.sum() > 0:
        return [first]
    rest = greedy_portfolio(np.maximum(scores, scores[:, [first]]).T, positive / positive.sum(), k)
    return [first, *(index for index in rest if index != first)][:k]


def _recommendations(
    names: list[str],
    configurations: Sequence[Configuration],
    scores: Array,
    weights: Array,
    k: int,
    method: str,
    importance: Mapping[str, float],
) -> Recommendations:
    order = np.argsort(-weights, kind="stable")
    items = tuple(
        Recommendation(
            configurations[index],
            float(np.clip(weights @ scores[:, index], 0.0, 1.0)),
            tuple(
                Evidence(names[row], float(weights[row]), float(scores[row, index]))
                for row in order[:NAMED].tolist()
            ),
        )
        for index in choose(scores, weights, k, vote=method == "vote")
    )
    return Recommendations(
        items,
        method,
        tuple((names[row], float(weights[row])) for row in order.tolist()),
        tuple(importance.items()),
    )


# ---- candidates ----------------------------------------------------------------------------


def candidates(views: Sequence[AlignedTask], space: Space, seed: int = 0) -> tuple[Array, Array]:
    """Configurations that the past tasks can be compared on, and how well they did there.

    Args:
        views: t past tasks, aligned.
        space: The new task's space.
        seed: Of models of the past tasks.

    Returns:
        n x d points, and t x n scores: for each task 0 at its worst candidate, 1 at its best.
    """
    placed = [_placed(view, space) for view in views]
    shared = [key for key in placed[0] if all(key in others for others in placed)]
    if len(shared) >= SHARED or (len(views) == 1 and shared):
        points = np.stack([placed[0][key][0] for key in shared])
        values = np.array([[of_task[key][1] for key in shared] for of_task in placed])
    else:
        points = np.concatenate(
            [v.points[np.argsort(-v.values, kind="stable")[:BEST_PER_TASK]] for v in views]
        )
        points = np.unique(space.activate(space.snap(points)), axis=0)
        values = PastModels(views, space, seed=seed).predict(space.features(points)).T
    return points, normalised(values)


def _placed(view: AlignedTask, space: Space) -> dict[bytes, tuple[Array, float]]:
    """A task's best value at each of its configurations that exist in the space."""
    inside = ((np.abs(view.points - 0.5) <= 0.5 + 1e-9) | np.isnan(view.points)).all(axis=1)
    points = space.snap(view.points)
    keys = np.nan_to_num(points.round(9), nan=-1.0)
    found: dict[bytes, tuple[Array, float]] = {}
    for row in np.flatnonzero(inside):
        key = keys[row].tobytes()
        if key not in found or found[key][1] < view.values[row]:
            found[key] = (points[row], float(view.values[row]))
    return found


def normalised(values: Array) -> Array:
    """Rows from 0 at their smallest value to 1 at their largest; 1 where all are equal."""
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    spread = high - low
    return np.where(spread > 0, (values - low) / np.where(spread > 0, spread, 1.0), 1.0)
