"""The history of a study, and how the present space sees it.

A history is past tasks. What follows from them and the present space - which of them count and
how much, their conditions, their best configurations - is made once and kept with the history.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from metahpo.archive.display_names import with_unique_names
from metahpo.settings import PolicySettings, PortfolioSettings
from metahpo.similarity import learned_relevance, metafeature_weights, relevance
from metahpo.suggest.portfolio import CandidateScorer, greedy_portfolio
from metahpo.surrogate.aligned_history import AlignedHistory
from metahpo.surrogate.cache import Cache
from metahpo.surrogate.features import FeatureMap
from metahpo.tasks.alignment import AlignedTask, align, thinned
from metahpo.tasks.choices import distribution_key
from metahpo.tasks.conditions import infer_conditions, joined
from metahpo.tasks.space import Array, Condition, Configuration, Space
from metahpo.tasks.task import Task

# A define-by-run study sees its history from a few spaces, one after the other.
KEPT_VIEWS = 4


@dataclass(frozen=True, eq=False)
class HistoryView:
    """A history as the present study sees it.

    Points are NaN where a hyperparameter is inactive and where no past task says anything of it;
    whoever uses them fills it in (``Space.canonical``).

    Attributes:
        aligned: Past tasks in the present space, with the conditions that they show.
        candidates: ``m x d``, the past's best configurations, the best first.
    """

    aligned: AlignedHistory
    candidates: Array
    _choice: _PortfolioChoice | None = None

    def portfolio(self, held: Array) -> Array:
        """``k x d`` configurations to start with, in this order.

        Args:
            held: ``d``, positions that all are to have; NaN where there is a choice.
        """
        if self._choice is None:
            return self.candidates
        return self._choice.given(held)


@dataclass(frozen=True, eq=False)
class _PortfolioChoice:
    """What portfolios are chosen from, and how.

    Attributes:
        space: The present space, with its conditions.
        pool: ``n x d`` candidates, NaN as in ``HistoryView``.
        scorer: Expects how well points do on the ``t`` past tasks.
        scores: ``n x t``, of the pool.
        weights: ``t``, how much each past task matters.
        settings: The size of a portfolio, and how far apart its members are.
    """

    space: Space
    pool: Array
    scorer: CandidateScorer
    scores: Array
    weights: Array
    settings: PolicySettings
    _kept: Cache[Array] = field(default_factory=lambda: Cache(KEPT_VIEWS))

    def given(self, held: Array) -> Array:
        """The portfolio of configurations with what is held."""
        return self._kept.get(held.tobytes(), lambda: self._chosen(held))

    def _chosen(self, held: Array) -> Array:
        free = np.isnan(held)
        points = self.space.canonical(self.pool, held)
        scores = self.scores if free.all() else self.scorer(points)
        chosen = greedy_portfolio(
            scores,
            self.weights,
            self.settings.portfolio.size,
            features=FeatureMap(self.space).array(points),
            apart=self.settings.search.near,
        )
        return np.where(free, self.pool[chosen], held)


class History(Sequence[Task]):
    """Past tasks, under unique names, with what was made of them for the studies that use them.

    Args:
        tasks: The past tasks.
    """

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        # Decisions name the tasks that carried weight.
        self._tasks = tuple(with_unique_names(tasks))
        self._views: Cache[HistoryView] = Cache(KEPT_VIEWS)

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> History:
        """The history itself, or a new one of these tasks."""
        return tasks if isinstance(tasks, History) else cls(tasks)

    def __reduce__(self) -> tuple[Any, ...]:
        # What was made of the tasks is made again elsewhere.
        return History, (self._tasks,)

    def __len__(self) -> int:
        return len(self._tasks)

    @overload
    def __getitem__(self, index: int) -> Task: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Task, ...]: ...

    def __getitem__(self, index: int | slice) -> Task | tuple[Task, ...]:
        return self._tasks[index]

    def view(
        self, task: Task, settings: PolicySettings, *, define_by_run: bool = True
    ) -> HistoryView:
        """The history as a task sees it.

        Args:
            task: The task so far.
            settings: How past tasks are weighed and the portfolio is chosen.
            define_by_run: Whether conditions and hyperparameters that the history shows are added
                to the task's space; see ``metahpo.suggest.policy.suggest``.
        """
        metafeatures = dict(task.metafeatures) if settings.metafeatures else {}
        space = self._extended_space(task) if define_by_run else task.space
        key = (
            space.key_of_distributions,
            frozenset((name, condition.key) for name, condition in space.conditions.items()),
            tuple(sorted(metafeatures.items())),
            settings,
        )
        return self._views.get(key, lambda: _view(self, space, metafeatures, settings))

    def expected_space(self, metafeatures: Mapping[str, float]) -> Space | None:
        """The space that a new task will probably have, before its trials show it.

        Args:
            metafeatures: The new task's.

        Returns:
            The space that the past tasks of largest weight share; None without any.
        """
        if not self._tasks:
            return None
        weights = metafeature_weights(metafeatures, [task.metafeatures for task in self])
        votes: dict[Hashable, float] = {}
        spaces: dict[Hashable, Space] = {}
        for task, weight in zip(self, weights, strict=True):
            # In whatever order the hyperparameters are.
            key = frozenset((n, distribution_key(d)) for n, d in task.space.distributions.items())
            votes[key] = votes.get(key, 0.0) + float(weight)
            spaces.setdefault(key, task.space)
        return spaces[max(votes, key=lambda key: votes[key])]

    # ---- the present space, with what the history shows ------------------------------------

    @cached_property
    def conditions(self) -> dict[str, Condition]:
        """The conditions between hyperparameters that the past tasks' trials show."""
        spaces = [task.space for task in self]
        # A trial that failed may have ended before it had all its hyperparameters.
        rows = [[t.configuration for t in task.trials if t.value is not None] for task in self]
        return infer_conditions(spaces, rows)

    def _extended_space(self, task: Task) -> Space:
        conditions = self._conditions_of(task)
        return self._with_unreached(task, conditions).with_conditions(conditions)

    def _conditions_of(self, task: Task) -> dict[str, Condition]:
        """Conditions stated by the task's space, or else shown by its trials and the history."""
        if task.space.conditions:
            return dict(task.space.conditions)
        finished = [trial.configuration for trial in task.trials if trial.value is not None]
        own = infer_conditions([task.space], [finished])
        # Few trials have many explanations; where the history's is one of them, it is the
        # likelier one.
        kept = {
            name: condition
            for name, condition in self.conditions.items()
            if all(_agrees(name, condition, row) for row in finished)
        }
        return joined(kept, own)

    def _with_unreached(self, task: Task, conditions: Mapping[str, Condition]) -> Space:
        """The task's space and what its trials have had no occasion to ask for.

        A define-by-run study that has only tried Adam has not shown yet that SGD has a momentum;
        the history shows it, and where the study's trials never met the condition, the history
        decides.
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
        known = {name: d for past in self for name, d in past.space.distributions.items()}
        added = {name: known[name] for name in conditions if name in unreached}
        return Space({**task.space.distributions, **added}, task.space.conditions)


def _agrees(name: str, condition: Condition, configuration: Configuration) -> bool:
    if condition.parent not in configuration:
        return name not in configuration
    return (name in configuration) == condition.admits(configuration[condition.parent])


# ---- the view ------------------------------------------------------------------------------


def _view(
    history: Sequence[Task],
    space: Space,
    metafeatures: Mapping[str, float],
    settings: PolicySettings,
) -> HistoryView:
    pairs = [(task, align(task, space)) for task in history]
    aligned = [(task, view) for task, view in pairs if view is not None]
    if not aligned:
        return HistoryView(AlignedHistory(space), np.empty((0, len(space))))
    described = [task.metafeatures for task, _ in aligned]
    overlap = np.array([view.overlap for _, view in aligned])
    chosen = _most_relevant(
        [view for _, view in aligned],
        relevance(metafeatures, described, overlap),
        settings.past_tasks,
    )
    full = [aligned[index][1] for index in chosen]
    rng = np.random.default_rng(0)
    tasks = tuple(thinned(task, rng) for task in full)
    pool = _best_configurations(full, space, settings.portfolio)
    scorer = CandidateScorer(tasks, FeatureMap(space), settings.portfolio)
    scores = scorer(space.canonical(pool))
    weights = learned_relevance(
        metafeatures, [described[index] for index in chosen], scores.T, overlap[chosen]
    )
    best = np.argsort(-(scores @ weights), kind="stable")[: settings.search.candidates]
    choice = _PortfolioChoice(space, pool, scorer, scores, weights, settings)
    return HistoryView(AlignedHistory(space, tasks, weights), pool[best], choice)


def _most_relevant(tasks: Sequence[AlignedTask], weights: Array, count: int) -> NDArray[np.intp]:
    """Indices in ascending order; of equally relevant tasks those with more trials."""
    lengths = np.array([len(task.values) for task in tasks])
    return np.sort(np.lexsort((-lengths, -weights))[:count])


def _best_configurations(
    tasks: Sequence[AlignedTask], space: Space, settings: PortfolioSettings
) -> Array:
    """The best trials of each past task, as points that exist in the present space.

    A trial outside the present bounds was another configuration; it stands only where no
    other is left.

    Returns:
        ``n x d``; NaN for what is inactive, and in all rows for what no past task has.
    """
    share = max(settings.pool_per_task, settings.pool // len(tasks))
    points = np.concatenate(
        [task.points[np.argsort(-task.values, kind="stable")[:share]] for task in tasks]
    )
    usable = space.inside(points).all(axis=1) & ~np.isnan(points).all(axis=1)
    if usable.any():
        points = points[usable]
    points = _lent(space.snap(points))
    return points[space.distinct(space.canonical(points))]


def _lent(points: Array) -> Array:
    """Gaps filled, column by column, with values of other rows; conditions decide what stays.

    A past task that lacks a hyperparameter says nothing of it, and the best trials of others do.
    """
    filled = points.copy()
    for column in filled.T:
        known = np.flatnonzero(~np.isnan(column))
        if len(known):
            gaps = np.flatnonzero(np.isnan(column))
            column[gaps] = column[known[gaps % len(known)]]
    return filled
