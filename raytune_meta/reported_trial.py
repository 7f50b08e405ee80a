"""A trial of Ray's as it reported itself, and as a ``Trial``.

Both come here: the trials of the sweep in progress (``ledger.py``) and those that are read from
folders (``trial_folder.py``). Values are maximised in a ``Trial``: for ``mode="min"`` their signs
are flipped here and nowhere else in this package.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from metahpo.tasks.feasibility import total_violation
from metahpo.tasks.space import Configuration
from metahpo.tasks.task import Trial, TrialState


@dataclass(frozen=True, slots=True)
class ReportedTrial:
    """What a trial reported.

    Attributes:
        configuration: Its parameters, flat.
        state: RUNNING, FAILED, or COMPLETE for one that ended by itself or was stopped.
        reports: The metric by iteration, as reported; NaN where it was not a number.
        iterations: The last iteration, whether or not it reported the metric.
        cost: Seconds, where known.
        started: POSIX seconds, where known.
        finished: POSIX seconds, where known.
        constraints: The last report of each constraint; those never reported are left out and
            count as met.
    """

    configuration: Configuration
    state: TrialState
    reports: Mapping[int, float] = field(default_factory=dict)
    iterations: int = 0
    cost: float | None = None
    started: float | None = None
    finished: float | None = None
    constraints: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float | None:
        """The last report, where it is finite and the trial neither runs nor failed."""
        if self.state is not TrialState.COMPLETE or not self.reports:
            return None
        last = self.reports[max(self.reports)]
        return last if math.isfinite(last) else None


def reported_constraints(result: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """Return the constraints in a flat result.

    Args:
        result: What a trial reported.
        names: Those of the constraints. One whose value is None counts as not reported; a truth
            value says whether the constraint is violated.

    Returns:
        A number by name; NaN, a violation of unknown size, for what is not a number.
    """
    return {name: _number(result[name]) for name in names if result.get(name) is not None}


def _number(value: Any) -> float:
    if isinstance(value, str | bytes):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def sign_of(mode: str | None) -> float:
    """Return the factor between a metric's values and maximised ones: 1 or -1."""
    return 1.0 if mode == "max" else -1.0


def as_trials(reported: Sequence[ReportedTrial], mode: str | None) -> tuple[Trial, ...]:
    """Return reported trials as trials with maximised values.

    A trial that ended before the longest one counts as pruned: Ray does not record whether a
    scheduler stopped it. One that ended without a finite value has failed.

    Args:
        reported: All trials of an experiment.
        mode: Whether the metric is maximised or minimised.
    """
    ended = [trial.iterations for trial in reported if trial.state is TrialState.COMPLETE]
    longest = max(ended, default=0)
    return tuple(_trial(trial, longest, sign_of(mode)) for trial in reported)


def _trial(reported: ReportedTrial, longest: int, sign: float) -> Trial:
    value, state = reported.value, reported.state
    if state is TrialState.COMPLETE and value is None:
        state = TrialState.FAILED
    elif state is TrialState.COMPLETE and reported.iterations < longest:
        state = TrialState.PRUNED
    return Trial(
        configuration=reported.configuration,
        value=None if value is None else sign * value,
        state=state,
        curve=tuple((float(i), sign * reported.reports[i]) for i in sorted(reported.reports)),
        cost=reported.cost,
        started=reported.started,
        finished=reported.finished,
        violation=total_violation(reported.constraints.values()),
    )
