"""A task: one tuning problem with its search space and its trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from metahpo.tasks.feasibility import effective_values
from metahpo.tasks.space import Array, Configuration, Space
from metahpo.tasks.units import in_safe_unit, times_power_of_two


class TrialState(StrEnum):
    """What became of a trial."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Trial:
    """A configuration and what came of it.

    Attributes:
        configuration: Values by hyperparameter; one that is absent was inactive.
        value: What is maximised; None while running and for a failed trial. A pruned trial
            carries its last report. Hosts that minimise flip the sign at their border.
        state: What became of it.
        curve: Reports on the way as (step, value), in the order of the steps.
        cost: Seconds it took, where known.
        started: POSIX timestamp in seconds, where known.
        finished: POSIX timestamp in seconds, where known.
        violation: Sum of what the constraints exceed zero by; 0 for a feasible trial and one
            without constraints. Infinite where its size is not known.
        user_attributes: What users noted on it, by name; archives keep it, nothing learns from it.
    """

    configuration: Configuration
    value: float | None
    state: TrialState = TrialState.COMPLETE
    curve: tuple[tuple[float, float], ...] = ()
    cost: float | None = None
    started: float | None = None
    finished: float | None = None
    violation: float = 0.0
    user_attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def feasible(self) -> bool:
        """Whether it violates no constraint."""
        return self.violation <= 0.0

    @property
    def observed(self) -> bool:
        """Whether it tells something: complete or pruned, with a finite value."""
        return (
            self.state in (TrialState.COMPLETE, TrialState.PRUNED)
            and self.value is not None
            and math.isfinite(self.value)
        )


@dataclass(frozen=True)
class Task:
    """One tuning problem: a past one, or the study in progress.

    Attributes:
        name: Names the task to people (a study's name) and, within an archive, identifies it.
        space: Its hyperparameters.
        trials: In the order in which they were started.
        metafeatures: What describes the task beforehand, by name.
        created: POSIX timestamp in seconds, where known.
        source: Where it was read from: a storage URL, a folder, a script.
        user_attributes: What users noted on it, by name, as a trial's.
    """

    name: str
    space: Space
    trials: tuple[Trial, ...] = ()
    metafeatures: Mapping[str, float] = field(default_factory=dict)
    created: float | None = None
    source: str = ""
    user_attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def observed(self) -> list[Trial]:
        """The trials that tell something."""
        return [trial for trial in self.trials if trial.observed]

    @property
    def values(self) -> Array:
        """The values of those, n, by which they are compared and modelled.

        An infeasible trial has a value below that of each feasible one, the lower the larger its
        violation (``feasibility.effective_values``); without any feasible trial the violations
        alone count.
        """
        return _values_of(self.observed)

    @property
    def ranked(self) -> list[Trial]:
        """The trials that tell something, the best first, infeasible ones last."""
        observed = self.observed
        return [observed[row] for row in np.argsort(-_values_of(observed), kind="stable")]

    @property
    def best(self) -> Trial | None:
        """The best feasible trial; None without any."""
        observed = self.observed
        best = observed[int(np.argmax(_values_of(observed)))] if observed else None
        return best if best is not None and best.feasible else None

    @property
    def running(self) -> list[Trial]:
        """The trials whose outcome is awaited."""
        return [trial for trial in self.trials if trial.state is TrialState.RUNNING]

    @property
    def failed(self) -> list[Trial]:
        """The trials that ended without a finite value."""
        return [t for t in self.trials if not t.observed and t.state is not TrialState.RUNNING]


def _values_of(observed: list[Trial]) -> Array:
    """``n`` effective values of ``n`` trials with values (``Task.values``)."""
    values = np.array([trial.value for trial in observed], dtype=float)
    violations = np.array([trial.violation for trial in observed])
    if not violations.any():
        return values
    safe, exponent = in_safe_unit(values)
    return np.nan_to_num(times_power_of_two(effective_values(safe, violations), exponent))
