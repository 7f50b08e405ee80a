"""History as the present study sees it.

Which past tasks count and how much, models of them, and their best configurations. All of it
follows from the history and the present space; it is made once and kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from metahpo.similarity import learned_relevance, metafeature_weights, relevance
from metahpo.suggest.portfolio import candidate_scores, greedy_portfolio
from metahpo.surrogate.cache import Cache
from metahpo.surrogate.gp.past_models import PastModels
from metahpo.tasks.alignment import AlignedTask, align
from metahpo.tasks.conditions import infer_conditions, joined
from metahpo.tasks.space import Array, Condition, Configuration, Space
from metahpo.tasks.task import Task

# Past tasks that are modelled; the most relevant ones of a longer history.
MAXIMUM_PAST_TASKS = 100
# The past's best configurations that the acquisition function is always evaluated at.
CANDIDATES = 100
# Of each past task's best trials, how many can be among them or in the portfolio: as many as
# make up the pool, and so many at least.
POOL = 300
POOL_PER_TASK = 5
# Enough for as many workers to start at once.
PORTFOLIO_SIZE = 8


@dataclass(frozen=True, eq=False)
class Past:
    """History as the present space sees it.

    Attributes:
        space: The present space, with the conditions that history shows.
        tasks: t aligned tasks; none where nothing overlaps.
        relevance: t weights that sum to 1.
        portfolio: k x d configurations to start with.
        candidates: m x d, the past's best configurations.
        serial: No two pasts of a process have the same: what caches keep one apart by.
    """

    space: Space
    tasks: tuple[AlignedTask, ...] = ()
    relevance: Array = field(default_factory=lambda: np.empty(0))
    portfolio: Array = field(default_factory=lambda: np.empty((0, 0)))
    candidates: Array = field(default_factory=lambda: np.empty((0, 0)))
    serial: int = field(default_factory=itertools.count().__next__)

    def __post_init__(self) -> None:
        if not self.tasks:
            object.__setattr__(self, "portfolio", np.empty((0, len(self.space))))
            object.__setattr__(self, "candidates", np.empty((0, len(self.space))))

    @cached_property
    def models(self) -> PastModels | None:
        """Models of the past tasks, fitted when first asked for: a study starts without them."""
        return PastModels(self.tasks, self.space) if self.tasks else None


def prepare(
    task: Task,
    history: Sequence[Task],
    *,
    metafeatures: bool = True,
    define_by_run: bool = True,
) -> Past:
    """The past for a task, kept for as long as the same history is passed.

    Args:
        task: The task so far.
        history: Past tasks.
        metafeatures: Whether to weigh by meta-features.
        define_by_run: Whether what history shows is added to the task's space; see ``suggest``.
    """
    described = dict(task.metafeatures) if metafeatures else {}
    space = _extended_space(task, history) if define_by_run else task.space
    key = (
        _identity(history),
        # Their text: in JSON, lists and tuples among the choices would look the same.
        tuple((name, repr(distribution)) for name, distribution in space.distributions.items()),
        tuple(sorted((name, repr(condition)) for name, condition in space.conditions.items())),
        tuple(sorted(described.items())),
    )
    # The history is kept beside what was made from it: its tasks' ids stay theirs.
    return _pasts.get(key, lambda: (_view(space, described, history), list(history)))[0]


def _extended_space(task: Task, history: Sequence[Task]) -> Space:
    conditions = _conditions(task, history)
    return _with_unreached(task, history, conditions).with_conditions(conditions)


def _identity(history: Sequence[Task]) -> tuple[int, ...]:
    return tuple(id(task) for task in history)


def _view(space: Space, metafeatures: Mapping[str, float], history: Sequence[Task]) -> Past:
    pairs = [(task, align(task, space)) for task in history]
    aligned = [(task, view) for task, view in pairs if view is not None]
    if not aligned:
        return Past(space)
    described = [task.metafeatures for task, _ in aligned]
    overlap = np.array([view.overlap for _, view in aligned])
    weights = relevance(metafeatures, described, overlap)
    # Of equally relevant tasks the longer ones tell more.
    lengths = np.array([len(view.values) for _, view in aligned])
    chosen = np.sort(np.lexsort((-lengths, -weights))[:MAXIMUM_PAST_TASKS])
    tasks = tuple(aligned[index][1] for index in chosen)
    candidates = _best_configurations(tasks, space)
    scores = candidate_scores(tasks, space, candidates)
    weights = learned_relevance(
        metafeatures, [described[index] for index in chosen], scores.T, overlap[chosen]
    )
    best = np.argsort(-(scores @ weights), kind="stable")[:CANDIDATES]
    portfolio = candidates[greedy_portfolio(scores, weights, PORTFOLIO_SIZE)]
    return Past(space, tasks, weights, portfolio, candidates[best])


def _best_configurations(tasks: Sequence[AlignedTask], space: Space) -> Array:
    """The best trials of each past task, as points that exist in the present space.

    A trial outside the present bounds was another configuration; it stands only where no
    other is left.
    """
    share = max(POOL_PER_TASK, POOL // len(tasks))
    points = np.concatenate(
        [task.points[np.argsort(-task.values, kind="stable")[:share]] for task in tasks]
    )
    outside = (np.abs(points - 0.5) > 0.5 + 1e-9).any(axis=1)
    empty = np.isnan(points).all(axis=1)
    if not (outside | empty).all():
        points = points[~(outside | empty)]
    return np.unique(space.activate(space.snap(points)), axis=0)


def _conditions(task: Task, history: Sequence[Task]) -> dict[str, Condition]:
    """Conditions stated by the task's space, or else shown by its trials and by history's."""
    if task.space.conditions:
        return dict(task.space.conditions)
    finished = [trial.configuration for trial in task.trials if trial.value is not None]
    shown = _shown_conditions(history)
    own = infer_conditions([task.space], [finished])
    # Few trials have many explanations; where history's is one of them, it is the likelier one.
    kept = {
        name: condition
        for name, condition in shown.items()
        if all(_agrees(name, condition, row) for row in finished)
    }
    return joined(kept, own)


def _shown_conditions(history: Sequence[Task]) -> dict[str, Condition]:
    def infer() -> tuple[dict[str, Condition], list[Task]]:
        spaces = [task.space for task in history]
        # A trial that failed may have ended before it asked for all.
        rows = [[t.configuration for t in task.trials if t.value is not None] for task in history]
        return infer_conditions(spaces, rows), list(history)

    return _shown.get(_identity(history), infer)[0]


def _with_unreached(
    task: Task, history: Sequence[Task], conditions: Mapping[str, Condition]
) -> Space:
    """The task's space and what its trials have had no occasion to ask for.

    A define-by-run study that has only tried Adam does not know that SGD has a momentum;
    history does, and where the study's trials never met the condition, it is believed.
    """
    rows = [trial.configuration for trial in task.trials]
    unreached = {
        name
        for name, condition in conditions.items()
        if name not in task.space
        and condition.parent in task.space
        and not any(
            condition.admits(row[condition.parent]) for row in rows if condition.parent in row
        )
    }
    if not unreached:
        return task.space
    known = {name: d for past in history for name, d in past.space.distributions.items()}
    added = {name: known[name] for name in conditions if name in unreached}
    return Space({**task.space.distributions, **added}, task.space.conditions)


def _agrees(name: str, condition: Condition, configuration: Configuration) -> bool:
    if condition.parent not in configuration:
        return name not in configuration
    return (name in configuration) == condition.admits(configuration[condition.parent])


def expected_space(history: Sequence[Task], metafeatures: Mapping[str, float]) -> Space | None:
    """The space that a new task will probably have, before its host tells.

    Args:
        history: Past tasks.
        metafeatures: The new task's.

    Returns:
        The space that the past tasks of largest weight share; None without any.
    """
    if not history:
        return None
    weights = metafeature_weights(metafeatures, [task.metafeatures for task in history])
    votes: dict[tuple[tuple[str, str], ...], float] = {}
    spaces: dict[tuple[tuple[str, str], ...], Space] = {}
    for task, weight in zip(history, weights, strict=True):
        key = tuple(sorted(task.space.to_json().items()))
        votes[key] = votes.get(key, 0.0) + float(weight)
        spaces.setdefault(key, task.space)
    return spaces[max(votes, key=lambda key: votes[key])]


_pasts: Cache[tuple[Past, list[Task]]] = Cache(4)
_shown: Cache[tuple[dict[str, Condition], list[Task]]] = Cache(4)
