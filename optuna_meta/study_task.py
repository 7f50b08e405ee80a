"""A study of Optuna's as a task.

Optuna minimises or maximises; tasks are maximised. The sign of trials is flipped here and nowhere
else in this package.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from metahpo.archive.shown import encodable
from metahpo.tasks.distributions import check_distribution
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial, TrialState
from metahpo.tasks.units import LARGEST_VALUE
from optuna_meta._optuna import all_trials, study_attribute
from optuna_meta.constraints import violation_in
from optuna_meta.stored_study import StoredStudy, StoredTrial

# The study's system attribute that holds its meta-features: a mapping of names to numbers.
TASK_ATTR = "metahpo:task"

_STATES = {
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.PRUNED,
    OptunaState.FAIL: TrialState.FAILED,
    OptunaState.RUNNING: TrialState.RUNNING,
}
_EPOCH = datetime(1970, 1, 1)  # Naive, as databases keep their UTC.


def sign_of(direction: StudyDirection) -> float:
    """Return the factor between a study's values and maximised ones: 1 or -1."""
    return 1.0 if direction is StudyDirection.MAXIMIZE else -1.0


def study_task(study: Study) -> Task:
    """Return a study as it stands, as a task.

    Args:
        study: A study with one objective.
    """
    metafeatures = metafeatures_in(study_attribute(study, TASK_ATTR))
    return task_from_trials(study.study_name, all_trials(study), study.direction, metafeatures)


def task_from_trials(
    name: str,
    trials: Sequence[FrozenTrial],
    direction: StudyDirection,
    metafeatures: Mapping[str, float] | None = None,
    *,
    space: Space | None = None,
    source: str = "",
    user_attributes: Mapping[str, Any] | None = None,
) -> Task:
    """Return trials of a study as a task.

    Args:
        name: The task's name.
        trials: The trials in the order of their numbers; those that wait are left out.
        direction: Whether their values are to be minimised.
        metafeatures: The task's meta-features.
        space: The space, where it is known; otherwise it is the union of all distributions that
            the trials requested, which takes as long as all the rest.
        source: Where they were read from.
        user_attributes: Those of the study, where they and those of trials are read.
    """
    sign = sign_of(direction)
    converted = [_frozen_trial(trial, sign) for trial in trials if trial.state in _STATES]
    if user_attributes is not None:
        notes = [dict(trial.user_attrs) for trial in trials if trial.state in _STATES]
        pairs = zip(converted, notes, strict=True)
        converted = [replace(trial, user_attributes=noted) for trial, noted in pairs]
    if space is None:
        space = _union(item for trial in trials for item in trial.distributions.items())
    created = _created(converted)
    return Task(
        encodable(name),
        space,
        tuple(converted),
        metafeatures or {},
        created,
        source,
        user_attributes or {},
    )


def task_from_stored(study: StoredStudy, source: str) -> Task:
    """Return a study that was read from a database, as a task.

    Args:
        study: A study with one objective.
        source: Where it was read from.
    """
    sign = sign_of(study.directions[0])
    trials = tuple(_stored_trial(trial, sign) for trial in study.trials if trial.state in _STATES)
    space = _union(study.requested.values())
    metafeatures = metafeatures_in(study.attribute)
    created = _created(trials)
    return Task(study.name, space, trials, metafeatures, created, source, study.user_attributes)


def metafeatures_in(attribute: object) -> dict[str, float]:
    """Return the finite numbers in a study's attribute; anything else there is ignored."""
    if not isinstance(attribute, Mapping):
        return {}
    return {
        encodable(str(name)): float(value)
        for name, value in attribute.items()
        if isinstance(value, int | float) and abs(value) <= LARGEST_VALUE
    }


def without_broken(trials: Iterable[FrozenTrial]) -> tuple[list[FrozenTrial], list[str]]:
    """Return the trials whose distributions can be searched, and what is wrong with the others.

    Optuna itself takes infinite bounds from whoever adds finished trials.
    """
    whole: list[FrozenTrial] = []
    broken: list[str] = []
    for trial in trials:
        try:
            for distribution in trial.distributions.values():
                check_distribution(distribution)
            whole.append(trial)
        except ValueError as error:
            broken.append(str(error))
    return whole, broken


# ---- trials --------------------------------------------------------------------------------


def _trial(
    optuna_state: OptunaState,
    configuration: Mapping[str, Any],
    value: float | None,
    reports: Mapping[int, float],
    started: float | None,
    finished: float | None,
    sign: float,
    attributes: Mapping[str, Any],
    user_attributes: Mapping[str, Any] | None = None,
) -> Trial:
    """Return one trial.

    Value, reports and system attributes are Optuna's; times are POSIX seconds.
    """
    state = _STATES[optuna_state]
    curve = tuple((step, sign * reports[step]) for step in sorted(reports)) if reports else ()
    if state is TrialState.PRUNED and curve:
        value = curve[-1][1]
    elif state is TrialState.FAILED or state is TrialState.RUNNING:
        value = None
    elif value is not None:
        value *= sign
    if state is TrialState.COMPLETE and value is None:
        state = TrialState.FAILED
    if value is not None and not math.isfinite(value):
        state, value = TrialState.FAILED, None
    cost = None if started is None or finished is None else round(finished - started, 6)
    violation = violation_in(attributes) if attributes else 0.0
    noted = user_attributes or {}
    return Trial(configuration, value, state, curve, cost, started, finished, violation, noted)


def _stored_trial(trial: StoredTrial, sign: float) -> Trial:
    started, finished = _utc_seconds(trial.started), _utc_seconds(trial.finished)
    return _trial(
        trial.state,
        trial.params,
        trial.value,
        trial.reports,
        started,
        finished,
        sign,
        trial.constraints,
        trial.user_attributes,
    )


def _frozen_trial(trial: FrozenTrial, sign: float) -> Trial:
    return _trial(
        trial.state,
        dict(trial.params),
        trial.value,
        trial.intermediate_values,
        _local_seconds(trial.datetime_start),
        _local_seconds(trial.datetime_complete),
        sign,
        trial.system_attrs,
    )


def _local_seconds(moment: datetime | None) -> float | None:
    # Rounded to the microseconds it has, it equals what is read from a database, to the bit.
    return None if moment is None else round(moment.timestamp(), 6)


def _utc_seconds(moment: datetime | None) -> float | None:
    return None if moment is None else (moment - _EPOCH).total_seconds()


def _created(trials: Iterable[Trial]) -> float | None:
    return min((t.started for t in trials if t.started is not None), default=None)


# ---- spaces --------------------------------------------------------------------------------


def _union(requested: Iterable[tuple[str, BaseDistribution]]) -> Space:
    """Return the space of all requested distributions, in the order of the requests.

    Where a range changed between trials, the widest counts, so that no value seen lies outside;
    where the kind changed, the latest.
    """
    space: dict[str, BaseDistribution] = {}
    for name, distribution in requested:
        former = space.setdefault(name, distribution)
        if former is not distribution and former != distribution:
            space[name] = _hull(former, distribution)
    return Space(space)


def _hull(former: BaseDistribution, latter: BaseDistribution) -> BaseDistribution:
    match former, latter:
        case FloatDistribution(), FloatDistribution() if former.log == latter.log:
            low, high = min(former.low, latter.low), max(former.high, latter.high)
            return FloatDistribution(low, high, log=latter.log, step=_common_step(former, latter))
        case IntDistribution(), IntDistribution() if former.log == latter.log:
            low, high = min(former.low, latter.low), max(former.high, latter.high)
            step = math.gcd(former.step, latter.step, former.low - latter.low)
            return IntDistribution(low, high, log=latter.log, step=step)
    return latter


def _common_step(former: FloatDistribution, latter: FloatDistribution) -> float | None:
    """Return the step of both, where their values lie on one grid."""
    if former.step is None or former.step != latter.step:
        return None
    steps = (former.low - latter.low) / former.step
    return former.step if math.isclose(steps, round(steps), abs_tol=1e-8) else None
