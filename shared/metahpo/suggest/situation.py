"""Everything that a decision depends on, and how one is made of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from metahpo.settings import PolicySettings
from metahpo.suggest.cells import cells
from metahpo.suggest.decision import Decision, Source
from metahpo.suggest.fixed_values import decoded, positions_of, with_place
from metahpo.suggest.history import HistoryView
from metahpo.suggest.spread import spread
from metahpo.surrogate.contract import Surrogate, SurrogateFamily
from metahpo.surrogate.study_arrays import StudyArrays
from metahpo.tasks.space import Array
from metahpo.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Situation:
    """Everything that a decision depends on.

    Attributes:
        task: The task so far.
        study: The same as arrays.
        view: The history as it sees it.
        family: Family of surrogates.
        settings: Settings of the policy.
        count: How many configurations are to be decided.
        fixed: Values that they have, whatever is best.
        rng: Source of everything random.
    """

    task: Task
    study: StudyArrays
    view: HistoryView
    family: SurrogateFamily
    settings: PolicySettings
    count: int
    fixed: Mapping[str, Any]
    rng: np.random.Generator

    @cached_property
    def held(self) -> Array:
        """``d``, positions of the fixed values; NaN where there is a choice."""
        return positions_of(self.study.space, self.fixed)

    @cached_property
    def cells(self) -> Array | None:
        """All configurations that may be chosen, where they are few enough to be listed."""
        return cells(self.study.space, self.held, self.settings.search.most_cells)

    def untried_cells(self, chosen: Sequence[Array] = ()) -> Array | None:
        """Those that were neither tried nor chosen; None where they are not listed."""
        if self.cells is None:
            return None
        return self.cells[~self.study.tried.and_also(chosen)(self.cells)]

    @property
    def has_history(self) -> bool:
        """Whether some past task overlaps with the space."""
        return bool(self.view.aligned.tasks)

    @property
    def all_infeasible(self) -> bool:
        """Whether there are trials with values, all of which violate a constraint."""
        observed = self.task.observed
        return bool(observed) and not any(trial.feasible for trial in observed)

    @cached_property
    def compared(self) -> Array:
        """``c x d``, trials as they would be with the fixed values, for what is to be improved on.

        Those that have these values come first, and the best of the others then; they are few,
        because a model predicts at all of them for each configuration of a batch.
        """
        study, held = self.study, self.held
        agrees = ((study.points == held) | np.isnan(held)).all(axis=1)
        order = np.lexsort((-study.values, ~agrees))[: self.settings.search.most_compared]
        return study.space.canonical(study.points[order], held)

    @cached_property
    def surrogate(self) -> Surrogate:
        """The model of the study, fitted when first needed."""
        return self.family.fit(self.study, self.view.aligned, self.settings)

    @property
    def trust(self) -> float | None:
        """How far the history is trusted; None where none is read."""
        return self.surrogate.trust if self.has_history and self.settings.transfer else None

    def decision(
        self, points: Sequence[Array], source: Source, reason: str, **about: Any
    ) -> Decision:
        """The decision for points, ``d`` each, in canonical form.

        The reason is completed by what was given beforehand and by what is repeated.
        """
        space = self.study.space
        configurations = tuple(decoded(space, np.stack(points), self.fixed))
        given = with_place(space, self.fixed)
        named = [name for name in given if any(name in c for c in configurations)]
        beforehand = f"Given beforehand: {', '.join(named)}." if named else ""
        remarks = [reason, beforehand, self._repeated(points)]
        return Decision(configurations, source, " ".join(filter(None, remarks)), **about)

    def _repeated(self, points: Sequence[Array]) -> str:
        fresh = np.stack(points)[~self.study.tried(np.stack(points))]
        repeated = len(points) - len(self.study.space.distinct(fresh))
        if not repeated:
            return ""
        which = "this one is" if len(points) == 1 else f"{repeated} of {len(points)} are"
        return f"No untried configuration is left: {which} repeated."

    def spread(
        self, chosen: Sequence[Array], count: int, held: Array | None = None
    ) -> list[Array]:
        """The chosen points, and others far from all to make up the count.

        Args:
            chosen: Points.
            count: How many there are to be.
            held: What the others are to have; None for what is fixed.
        """
        listed = self.cells if held is None else None
        return spread(
            self.study,
            chosen,
            count,
            self.rng,
            self.settings.search,
            self.held if held is None else held,
            listed,
        )

    def heaviest(self, weights: Array) -> tuple[tuple[str, float], ...]:
        """Names and shares of the past tasks that carry most weight, by its absolute amount."""
        total = float(np.abs(weights).sum())
        if not total:
            return ()
        order = np.argsort(-np.abs(weights), kind="stable")[: self.settings.named_tasks]
        tasks = self.view.aligned.tasks
        return tuple((tasks[i].name, float(weights[i]) / total) for i in order)
