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
from metahpo.suggest.history import HistoryView
from metahpo.suggest.spread import spread
from metahpo.surrogate.contract import Surrogate, SurrogateFamily
from metahpo.surrogate.study_arrays import StudyArrays, placed
from metahpo.tasks.space import Array
from metahpo.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Situation:
    """Everything that a decision depends on.

    Attributes:
        task: The task so far.
        study: The same as arrays.
        view: The history as it sees it.
        family: Of surrogates.
        settings: Of the policy.
        count: How many configurations are to be decided.
        fixed: Values that they have, whatever is best.
        rng: Of everything random.
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
        return placed(self.study.space, [self.fixed])[0]

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
        decoded = self.study.space.decode(np.stack(points))
        # As they were given: on their way through the unit cube they may be rounded or clipped.
        given = {
            name: self.fixed[name]
            for name, position in zip(self.study.space, self.held, strict=True)
            if not np.isnan(position)
        }
        configurations = tuple({n: given.get(n, v) for n, v in c.items()} for c in decoded)
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
