"""Configurations for a new task before any trial, from similar past tasks.

The performance of a configuration on the new task is predicted as a weighted mean of its
performance on the past tasks; a similarity (``metahpo.similarity``) gives the weights. Further
configurations are added as in a portfolio: for the past tasks on which the earlier ones do badly.

Notation: t past tasks, n candidate configurations, d hyperparameters.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from metahpo.archive import Archive
from metahpo.recommendation.result import Evidence, Recommendation, Recommendations
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
from metahpo.suggest.history import History
from metahpo.suggest.portfolio import greedy_portfolio
from metahpo.surrogate.features import FeatureMap
from metahpo.surrogate.gp.past_models import PastModels
from metahpo.surrogate.torch_state import own_torch_state
from metahpo.tasks.alignment import AlignedTask, align, thinned
from metahpo.tasks.space import Array, Configuration, Space
from metahpo.tasks.task import Task

# Similarities by name, each made from a seed.
METHODS: Mapping[str, Callable[[int], Similarity]] = {
    "kglasso": lambda seed: default_kglasso(),
    "knn": lambda seed: Neighbours(10, shrinkage=0.6),
    "vote": lambda seed: Neighbours(10),
    "cosine": lambda seed: Neighbours(15, Distance.COSINE, shrinkage=0.6),
    "kernel": lambda seed: GaussianKernel(quantile=0.05),
    "metric": lambda seed: LearnedMetric(seed=seed),
    "portfolio": lambda seed: EqualWeights(),
}
# If all past tasks evaluated at least this many configurations in common, these are the
# candidates, with their observed values. Otherwise the candidates are the best configurations of
# each past task, and models of the past tasks predict their values.
MINIMUM_SHARED = 20
BEST_PER_TASK = 5
# Fraction of the candidates that each past task votes for, and the weight of the scores that
# break ties between votes.
VOTED_FRACTION = 0.1
TIE_WEIGHT = 1e-3
# Past tasks listed as evidence of a recommendation.
EVIDENCE_TASKS = 5


@own_torch_state()
def recommend(
    task: Task | Mapping[str, float],
    archive: Archive | str | os.PathLike[str] | Iterable[Task],
    k: int = 5,
    method: str = "kglasso",
    *,
    seed: int = 0,
) -> Recommendations:
    """Recommend configurations for a task that has no trials yet.

    Args:
        task: The new task: its meta-features, as ``metafeatures.extract`` returns them, or a
            ``Task`` with meta-features and a search space. Without a space, the most common
            space among the past tasks is used, weighted by similarity.
        archive: Past tasks, or the path or URL of an archive.
        k: Number of configurations; fewer are returned if there are fewer candidates.
        method: Similarity of tasks: ``"kglasso"``, ``"knn"``, ``"vote"`` (each of the nearest
            tasks votes for its best configurations), ``"cosine"``, ``"kernel"``,
            ``"metric"``, or ``"portfolio"``, which ignores meta-features.
        seed: Seed of the learned metric and of models of past tasks.

    Raises:
        ValueError: If ``k`` is below 1, the method is unknown, no past task has observed
            trials, or none of them shares a hyperparameter with the search space.
        ArchiveError: If there is no archive at the path.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    described = task.metafeatures if isinstance(task, Task) else task
    past = [other for other in _tasks(archive) if other.observed and not _same(other, task)]
    if not past:
        raise ValueError("no past task has observed trials; add some with `metahpo collect`")
    space = task.space if isinstance(task, Task) and len(task.space) else None
    space = space or History(past).expected_space(described)
    aligned = [(other, view) for other in past if space and (view := align(other, space))]
    if space is None or not aligned:
        names = ", ".join(space or ())
        raise ValueError(f"no past task shares a hyperparameter with the search space ({names})")
    tasks, views = zip(*aligned, strict=True)
    points, scores = candidates(views, space, seed)
    similarity = METHODS[method](seed)
    similarity.fit([other.metafeatures for other in tasks], ranked(scores))
    weights = similarity.weights(described)
    chosen = choose(scores, weights, k, vote=method == "vote")
    order = np.argsort(-weights, kind="stable").tolist()
    items = _with_evidence(chosen, space.decode(points[chosen]), scores, weights, order, tasks)
    return Recommendations(
        items,
        method,
        tuple((tasks[row].name, float(weights[row])) for row in order),
        tuple(similarity.importance.items()),
    )


def _tasks(archive: Archive | str | os.PathLike[str] | Iterable[Task]) -> list[Task]:
    if isinstance(archive, str | os.PathLike):
        archive = Archive(archive)
    return list(archive)


def _same(past: Task, task: Task | Mapping[str, float]) -> bool:
    """Whether a past task is the new task itself, whose results must not be used."""
    return isinstance(task, Task) and (past.name, past.created) == (task.name, task.created)


def choose(scores: Array, weights: Array, k: int, *, vote: bool = False) -> list[int]:
    """Choose candidates in the order in which to try them: a portfolio for the weighted tasks.

    The first has the best predicted performance; each further one adds most to the weighted
    mean of the best score per past task.

    Args:
        scores: `t x n`, performance of the candidates on the past tasks; larger is better.
        weights: `t`, sums to 1; negative weights count in the prediction, not in the portfolio.
        k: Number of candidates.
        vote: Whether each past task votes for its best candidates, and scores only break ties.

    Returns:
        At most k indices of candidates.
    """
    if vote:
        best = np.quantile(scores, 1.0 - VOTED_FRACTION, axis=1, keepdims=True)
        scores = (scores >= best) + TIE_WEIGHT * scores
    first = int(np.argmax(weights @ scores))
    positive = np.maximum(weights, 0.0)
    if k == 1 or not positive.sum() > 0:
        return [first]
    rest = greedy_portfolio(np.maximum(scores, scores[:, [first]]).T, positive / positive.sum(), k)
    return [first, *(index for index in rest if index != first)][:k]


def _with_evidence(
    chosen: Sequence[int],
    configurations: Sequence[Configuration],
    scores: Array,
    weights: Array,
    order: Sequence[int],
    tasks: Sequence[Task],
) -> tuple[Recommendation, ...]:
    """The chosen candidates with their predicted scores and the past tasks behind them."""
    return tuple(
        Recommendation(
            configuration,
            float(np.clip(weights @ scores[:, index], 0.0, 1.0)),
            tuple(
                Evidence(tasks[row].name, float(weights[row]), float(scores[row, index]))
                for row in order[:EVIDENCE_TASKS]
            ),
        )
        for index, configuration in zip(chosen, configurations, strict=True)
    )


# ---- candidates ----------------------------------------------------------------------------


def candidates(views: Sequence[AlignedTask], space: Space, seed: int = 0) -> tuple[Array, Array]:
    """Find configurations on which the past tasks can be compared, and their performance.

    Args:
        views: The t past tasks, aligned with the space.
        space: Search space of the new task.
        seed: Seed of the models of the past tasks.

    Returns:
        Points of the unit cube, `n x d`, and scores, `t x n`: for each past task 0 at its worst
        candidate and 1 at its best.
    """
    placed = [_placed(view, space) for view in views]
    shared = [key for key in placed[0] if all(key in others for others in placed)]
    if len(shared) >= MINIMUM_SHARED or (len(views) == 1 and shared):
        points = np.stack([placed[0][key][0] for key in shared])
        values = np.array([[of_task[key][1] for key in shared] for of_task in placed])
    else:
        points = np.concatenate(
            [v.points[np.argsort(-v.values, kind="stable")[:BEST_PER_TASK]] for v in views]
        )
        points = np.unique(space.activate(space.snap(points)), axis=0)
        rng = np.random.default_rng(seed)
        tasks = [thinned(view, rng) for view in views]
        values = PastModels(tasks, FeatureMap(space), seed=seed).predict(points).T
    return points, normalised(values)


def _placed(view: AlignedTask, space: Space) -> dict[bytes, tuple[Array, float]]:
    """The best value of a task at each of its configurations inside the space, by point."""
    points = space.snap(view.points)
    found: dict[bytes, tuple[Array, float]] = {}
    for row in np.flatnonzero(space.inside(view.points).all(axis=1)):
        key = space.key(points[row])
        if key not in found or found[key][1] < view.values[row]:
            found[key] = (points[row], float(view.values[row]))
    return found


def normalised(values: Array) -> Array:
    """Scale each row to [0, 1].

    Args:
        values: `t x n`.

    Returns:
        `t x n`; 1 in a row whose values are all equal.
    """
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    spread = high - low
    return np.where(spread > 0, (values - low) / np.where(spread > 0, spread, 1.0), 1.0)
