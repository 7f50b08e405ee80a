"""Studies as databases and journals store them, checked.

A row that is wrong breaks its trial, what is wrong with a study breaks that study, and both say
why.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from metahpo.archive.limits import MOST_HYPERPARAMETERS
from metahpo.archive.shown import encodable
from metahpo.archive.stored_distribution import external_value, stored_distribution
from metahpo.tasks.space import SpaceError


@dataclass(slots=True)
class StoredTrial:
    """A trial as stored.

    Attributes:
        state: Optuna's.
        started: UTC without a time zone.
        finished: UTC without a time zone.
        params: Values as the objective saw them.
        value: The objective's value; any one of several objectives.
        reports: Intermediate values by step.
        constraints: The system attributes that hold constraints, by key.
        user_attributes: Where they are read.
        requests: The entries of its study's ``requested`` that it uses.
        broken: What is wrong with one of its rows; None if nothing is.
    """

    state: TrialState
    started: datetime | None
    finished: datetime | None
    params: dict[str, Any] = field(default_factory=dict)
    value: float | None = None
    reports: dict[int, float] = field(default_factory=dict)
    constraints: dict[str, Any] = field(default_factory=dict)
    user_attributes: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[str, BaseDistribution]] = field(default_factory=list)
    broken: str | None = None


@dataclass(slots=True)
class StoredStudy:
    """A study as stored.

    Attributes:
        name: The study's name.
        directions: One for each objective.
        attribute: The requested system attribute; None where there is none.
        user_attributes: Where they are read.
        trials: In the order in which they were created.
        requested: Hyperparameters with their distributions, in the order in which trials first
            requested them, by name and the distribution's JSON text.
        broken: What is wrong with the study as a whole; None if nothing is.
        broken_trials: What is wrong with each trial that was left out.
    """

    name: str
    directions: list[StudyDirection] = field(default_factory=list)
    attribute: Any = None
    user_attributes: dict[str, Any] = field(default_factory=dict)
    trials: list[StoredTrial] = field(default_factory=list)
    requested: dict[tuple[str, str], tuple[str, BaseDistribution]] = field(default_factory=dict)
    broken: str | None = None
    broken_trials: list[str] = field(default_factory=list)

    def leave_out_broken_trials(self) -> None:
        """Keep only the trials that are whole, and say what is wrong with the others.

        What only the others requested is left out as well: it would shape the space.
        """
        self.broken_trials = [t.broken for t in self.trials if t.broken is not None]
        if self.broken_trials:
            self.trials = [trial for trial in self.trials if trial.broken is None]
            used = {id(request) for trial in self.trials for request in trial.requests}
            kept = ((k, request) for k, request in self.requested.items() if id(request) in used)
            self.requested = dict(kept)
        if len({name for name, _ in self.requested}) > MOST_HYPERPARAMETERS:
            self.broken = f"more than {MOST_HYPERPARAMETERS:,} hyperparameters"


def study_name(name: Any) -> str:
    """Return a study's name; a stand-in for what is no text."""
    return encodable(name) if isinstance(name, str) else short(name)


def short(value: Any) -> str:
    """Return a value that should be another, for a message."""
    text = repr(value[:50] if isinstance(value, str | bytes) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def stored_trial(state: Any, started: Any, finished: Any) -> StoredTrial:
    """Return a trial without values; a broken one for an unknown state and broken dates."""
    try:
        return StoredTrial(TrialState[state], _moment(started), _moment(finished))
    except KeyError:
        reason = f"unknown state {short(state)}"
    except (ValueError, TypeError, OverflowError):
        reason = f"{short(started)} or {short(finished)} is no date"
    return StoredTrial(TrialState.WAITING, None, None, broken=reason)


def _moment(value: Any) -> datetime | None:
    # SQLite keeps text.
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if moment is not None and not isinstance(moment, datetime):
        raise TypeError(type(moment).__name__)
    if moment is None or moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)


def checked_number(value: Any) -> float:
    """Return a stored value as a float; raises ValueError for anything but a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"the value {short(value)} is no number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a value is beyond all numbers") from None


def checked_step(step: Any) -> int:
    """Return a stored step; raises ValueError for anything but a whole number."""
    if isinstance(step, bool) or not isinstance(step, int) or abs(step) > 2**63:
        raise ValueError(f"the step {short(step)} is no whole number")
    return step


def put_param(study: StoredStudy, trial: StoredTrial, name: Any, internal: Any, text: Any) -> None:
    """Put a parameter into its trial, which is broken if the parameter is.

    Args:
        study: The trial's study.
        trial: The trial.
        name: The hyperparameter.
        internal: The value as stored: a number, or the index of a choice.
        text: The JSON text of the distribution.
    """
    try:
        request = study.requested.get((name, text))
        if request is None:
            if not isinstance(name, str) or not isinstance(text, str):
                raise ValueError("a parameter lacks its name or distribution, or it is too long")
            request = sys.intern(encodable(name)), stored_distribution(text)
            study.requested[name, text] = request
        trial.requests.append(request)
        name, distribution = request
        trial.params[name] = external_value(distribution, internal)
    except (SpaceError, ValueError, TypeError) as error:
        trial.broken = f"{short(name)}: {error}"
