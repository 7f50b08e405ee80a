"""Reading the histories that Optuna keeps, as tasks.

Databases are read with plain queries for all studies at once, which takes seconds where
Optuna's own interface, trial by trial, takes a minute. Any other storage is read through
Optuna's public interface. Nothing is ever written, and no file is created.

Optuna minimises or maximises; tasks are maximised. The sign is turned here and nowhere else.
"""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, RDBStorage, _CachedStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from metahpo.archive import SourceError, SourceWarning
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial, TrialState
from optuna_meta.database import StoredStudy, StoredTrial, open_read_only, read_studies, shown

# The study's system attribute that holds its meta-features: a mapping of names to numbers.
TASK_ATTR = "metahpo:task"

Source: TypeAlias = str | BaseStorage | Study

_STATES = {
    OptunaState.COMPLETE: TrialState.COMPLETE,
    OptunaState.PRUNED: TrialState.PRUNED,
    OptunaState.FAIL: TrialState.FAILED,
    OptunaState.RUNNING: TrialState.RUNNING,
}
_EPOCH = datetime(1970, 1, 1)  # Naive, as databases keep their UTC.
_NAMED_AT_MOST = 5
_SQLITE_MAGIC = b"SQLite format 3\0"
# What every line of a journal file has.
_JOURNAL_MARK = b'"op_code"'


def read_tasks(source: Source | Iterable[Source], *, exclude: Collection[str] = ()) -> list[Task]:
    """The studies of a source as tasks, in the order in which they were created.

    Studies with several objectives and studies that no trial of tells anything are passed over;
    one ``SourceWarning`` a storage names them.

    Args:
        source: A storage URL, the path of an SQLite or journal file, an Optuna storage, a
            study, or several of these.
        exclude: Names of studies to leave out.

    Raises:
        SourceError: For a URL or path that is no Optuna storage or cannot be read.
    """
    with _collection_paused():
        if isinstance(source, str):
            return _read_text(source, exclude)
        if isinstance(source, BaseStorage):
            return _read_storage(source, None, exclude)
        if isinstance(source, Study):
            return _read_storage(source._storage, source._study_id, exclude)
    return [task for one in source for task in read_tasks(one, exclude=exclude)]


@contextmanager
def _collection_paused() -> Iterator[None]:
    # A million objects are made here and all are kept: looking for garbage among them, again
    # and again, would take a quarter of the time.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_source(source: object, **_options: object) -> list[Task]:
    """The reader that ``metahpo.archive.sources`` finds; see ``read_tasks``.

    Args:
        source: A storage URL, the path of an SQLite or journal file, an Optuna storage or study.
        _options: Other readers need them; Optuna's studies know their directions.

    Raises:
        SourceError: For what is no Optuna storage or cannot be read.
    """
    if not isinstance(source, str | BaseStorage | Study):
        raise SourceError(f"a {type(source).__name__} is no Optuna storage or study")
    return read_tasks(source)


def study_task(study: Study) -> Task:
    """A study as it stands, as a task.

    Args:
        study: A study with one objective.
    """
    storage, study_id = study._storage, study._study_id
    metafeatures = _metafeatures(storage.get_study_system_attrs(study_id).get(TASK_ATTR))
    trials = storage.get_all_trials(study_id, deepcopy=False)
    return task_from_trials(study.study_name, trials, study.direction, metafeatures)


def task_from_trials(
    name: str,
    trials: Sequence[FrozenTrial],
    direction: StudyDirection,
    metafeatures: Mapping[str, float] | None = None,
    *,
    space: Space | None = None,
    source: str = "",
) -> Task:
    """Trials of a study as a task.

    Args:
        name: The task's name.
        trials: The trials in the order of their numbers; those that wait are left out.
        direction: Whether their values are to be minimised.
        metafeatures: What describes the task beforehand.
        space: The space, where it is known; otherwise all distributions the trials asked for
            make it, which takes as long as all the rest.
        source: Where they were read from.
    """
    sign = _sign(direction)
    told = [_frozen_trial(trial, sign) for trial in trials if trial.state in _STATES]
    if space is None:
        space = _union(item for trial in trials for item in trial.distributions.items())
    return Task(name, space, tuple(told), metafeatures or {}, _created(told), source)


# ---- trials --------------------------------------------------------------------------------


def _trial(
    state: OptunaState,
    configuration: Mapping[str, Any],
    value: float | None,
    reports: Mapping[int, float],
    started: float | None,
    finished: float | None,
    sign: float,
) -> Trial:
    """One trial; ``value`` and ``reports`` are Optuna's, times are POSIX seconds."""
    told = _STATES[state]
    curve = tuple((step, sign * reports[step]) for step in sorted(reports)) if reports else ()
    if told is TrialState.PRUNED and curve:
        value = curve[-1][1]
    elif told is TrialState.FAILED or told is TrialState.RUNNING:
        value = None
    elif value is not None:
        value *= sign
    if told is TrialState.COMPLETE and value is None:
        told = TrialState.FAILED
    if value is not None and not math.isfinite(value):
        told, value = TrialState.FAILED, None
    cost = None if started is None or finished is None else round(finished - started, 6)
    return Trial(configuration, value, told, curve, cost, started, finished)


def _stored_trial(trial: StoredTrial, sign: float) -> Trial:
    started, finished = _utc_seconds(trial.started), _utc_seconds(trial.finished)
    return _trial(trial.state, trial.params, trial.value, trial.reports, started, finished, sign)


def _frozen_trial(trial: FrozenTrial, sign: float) -> Trial:
    return _trial(
        trial.state,
        dict(trial.params),
        trial.value,
        trial.intermediate_values,
        _local_seconds(trial.datetime_start),
        _local_seconds(trial.datetime_complete),
        sign,
    )


def _local_seconds(moment: datetime | None) -> float | None:
    # Rounded to the microseconds it has, it equals what is read from a database, to the bit.
    return None if moment is None else round(moment.timestamp(), 6)


def _utc_seconds(moment: datetime | None) -> float | None:
    return None if moment is None else (moment - _EPOCH).total_seconds()


def _sign(direction: StudyDirection) -> float:
    return 1.0 if direction is StudyDirection.MAXIMIZE else -1.0


def _created(trials: Iterable[Trial]) -> float | None:
    return min((t.started for t in trials if t.started is not None), default=None)


def _metafeatures(attribute: object) -> dict[str, float]:
    """The numbers in a study's attribute; anything else there is ignored."""
    if not isinstance(attribute, Mapping):
        return {}
    return {
        str(name): float(value)
        for name, value in attribute.items()
        if isinstance(value, int | float)
    }


# ---- spaces --------------------------------------------------------------------------------


def _union(asked: Iterable[tuple[str, BaseDistribution]]) -> Space:
    """The space of all that was asked for, in the order in which it was.

    Where a range changed between trials, the widest counts, so that no value seen lies outside;
    where the kind changed, the latest.
    """
    space: dict[str, BaseDistribution] = {}
    for name, distribution in asked:
        known = space.setdefault(name, distribution)
        if known is not distribution and known != distribution:
            space[name] = _hull(known, distribution)
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
    """The step of both, where their values lie on one grid."""
    if former.step is None or former.step != latter.step:
        return None
    steps = (former.low - latter.low) / former.step
    return former.step if math.isclose(steps, round(steps), abs_tol=1e-8) else None


# ---- storages ------------------------------------------------------------------------------

_Read: TypeAlias = Iterator[tuple[str, Sequence[StudyDirection], Task | None]]


def _read_text(source: str, exclude: Collection[str]) -> list[Task]:
    if "://" in source:
        return _read_url(source, exclude)
    path = Path(source).expanduser()
    if not path.is_file():
        raise SourceError(f"{source!r} is neither a storage URL nor a file")
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith(_SQLITE_MAGIC):
        return _read_url(sa.URL.create("sqlite", database=str(path)), exclude)
    if _JOURNAL_MARK in start:
        storage = JournalStorage(JournalFileBackend(str(path)))
        return _usable(_through_interface(storage, None, source), source, exclude)
    raise SourceError(f"{source!r} is neither an SQLite file nor a journal file of Optuna")


def _read_url(url: str | sa.URL, exclude: Collection[str]) -> list[Task]:
    engine = open_read_only(url)
    try:
        source = shown(sa.make_url(url))
        return _usable(_from_database(engine, None, source), source, exclude)
    finally:
        engine.dispose()


def _read_storage(
    storage: BaseStorage, study_id: int | None, exclude: Collection[str]
) -> list[Task]:
    backend = storage._backend if isinstance(storage, _CachedStorage) else storage
    if isinstance(backend, RDBStorage):
        source = shown(backend.engine.url)
        read = _from_database(backend.engine, study_id, source)
    else:
        source = type(backend).__name__
        read = _through_interface(backend, study_id, source)
    return _usable(read, source, exclude)


def _from_database(engine: sa.Engine, study_id: int | None, source: str) -> _Read:
    for study in read_studies(engine, TASK_ATTR, study_id):
        single = len(study.directions) == 1
        yield study.name, study.directions, _stored_task(study, source) if single else None


def _through_interface(storage: BaseStorage, study_id: int | None, source: str) -> _Read:
    for study in storage.get_all_studies():
        if study_id is not None and study._study_id != study_id:
            continue
        if len(study.directions) != 1:
            yield study.study_name, study.directions, None
            continue
        trials = storage.get_all_trials(study._study_id, deepcopy=False)
        metafeatures = _metafeatures(study.system_attrs.get(TASK_ATTR))
        direction = study.directions[0]
        task = task_from_trials(study.study_name, trials, direction, metafeatures, source=source)
        yield study.study_name, study.directions, task


def _stored_task(study: StoredStudy, source: str) -> Task:
    sign = _sign(study.directions[0])
    trials = tuple(_stored_trial(trial, sign) for trial in study.trials if trial.state in _STATES)
    space = _union(study.asked.values())
    metafeatures = _metafeatures(study.attribute)
    return Task(study.name, space, trials, metafeatures, _created(trials), source)


def _usable(read: _Read, source: str, exclude: Collection[str]) -> list[Task]:
    """The tasks that tell something; a warning names the studies that were passed over."""
    tasks: list[Task] = []
    passed_over: dict[str, str] = {}
    for name, directions, task in read:
        if name in exclude:
            continue
        if task is None:
            passed_over[name] = f"{len(directions)} objectives"
        elif not task.observed:
            passed_over[name] = "no finished trial"
        else:
            tasks.append(task)
    _warn_of(passed_over, source)
    return tasks


def _warn_of(passed_over: Mapping[str, str], source: str) -> None:
    if not passed_over:
        return
    named = [f"{name!r} ({why})" for name, why in passed_over.items()]
    rest = len(named) - _NAMED_AT_MOST
    listed = ", ".join(named[:_NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
    studies = "study" if len(named) == 1 else "studies"
    message = f"skipped {len(named)} {studies} of {source}: {listed}"
    warnings.warn(message, SourceWarning, stacklevel=5)
