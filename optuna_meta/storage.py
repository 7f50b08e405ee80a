"""Reading Optuna's storages as past tasks.

Databases are read with plain queries for all studies at once, which takes seconds where Optuna's
own interface, trial by trial, takes a minute. Any other storage is read through Optuna's
interface. Nothing is ever written, and no file is created.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import sqlalchemy as sa
from optuna.storages import BaseStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import Study

from metahpo.archive import (
    ReadOptions,
    SourceWarning,
    UnrecognisedSourceError,
)
from metahpo.archive.errors import EmptySourceError, without_passwords
from metahpo.tasks.task import Task
from optuna_meta._optuna import (
    engine_of,
    storage_of,
    studies_in,
    study_id,
    trials_in,
    without_cache,
)
from optuna_meta.database import open_read_only, read_studies, shown
from optuna_meta.study_task import TASK_ATTR, metafeatures_in, task_from_stored, task_from_trials

Source: TypeAlias = str | BaseStorage | Study

_NAMED_AT_MOST = 5
_SQLITE_MAGIC = b"SQLite format 3\0"
# What every line of a journal file has.
_JOURNAL_MARK = b'"op_code"'


class OptunaReader:
    """Reads Optuna's storages and studies, for ``metahpo.archive.sources``."""

    types = (str, BaseStorage, Study)
    accepts = "the URL or file of an Optuna storage, an Optuna storage or a Study"
    looks_for = "an Optuna study with one objective and a finished trial"

    def read(self, source: Source, options: ReadOptions) -> list[Task]:
        """Return the studies of a source as tasks; see ``read_tasks``.

        Args:
            source: A storage URL, the path of an SQLite or journal file, a storage or a study.
            options: Not used: studies store their directions.

        Raises:
            UnrecognisedSourceError: For a string that names no Optuna storage.
            SourceError: For a storage that cannot be read or that holds no task.
        """
        tasks = read_tasks(source)
        if not tasks:
            message = f"{_named(source)} holds no past task: it lacks {self.looks_for}"
            raise EmptySourceError(message)
        return tasks


def read_tasks(source: Source, *, exclude: Collection[str] = ()) -> list[Task]:
    """Return the studies of a source as tasks, in the order in which they were created.

    Studies with several objectives and studies without a finished trial are skipped; one
    ``SourceWarning`` per storage names them.

    Args:
        source: A storage URL, the path of an SQLite or journal file, an Optuna storage or a
            study.
        exclude: Names of studies to leave out.

    Raises:
        SourceError: For a URL or path that is not an Optuna storage or cannot be read.
    """
    with _collection_paused():
        if isinstance(source, str):
            return _read_string(source, exclude)
        if isinstance(source, Study):
            return _read_storage(storage_of(source), study_id(source), exclude)
        return _read_storage(source, None, exclude)


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


# ---- storages ------------------------------------------------------------------------------

# Names of studies, each with its task, or why it is skipped.
_Read: TypeAlias = Iterator[tuple[str, Task | str]]


def _read_string(source: str, exclude: Collection[str]) -> list[Task]:
    if "://" in source:
        return _read_url(source, exclude)
    path = Path(source).expanduser()
    if not path.is_file():
        raise UnrecognisedSourceError("neither a storage URL nor a file")
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith(_SQLITE_MAGIC):
        return _read_url(sa.URL.create("sqlite", database=str(path)), exclude)
    if _JOURNAL_MARK in start:
        storage = JournalStorage(JournalFileBackend(str(path)))
        return _usable(_from_interface(storage, None, source), source, exclude)
    raise UnrecognisedSourceError("neither an SQLite file nor a journal file of Optuna")


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
    engine = engine_of(storage)
    if engine is None:
        read = _from_interface(without_cache(storage), study_id, _named(storage))
    else:
        read = _from_database(engine, study_id, _named(storage))
    return _usable(read, _named(storage), exclude)


def _from_database(engine: sa.Engine, study_id: int | None, source: str) -> _Read:
    for study in read_studies(engine, TASK_ATTR, study_id):
        count = len(study.directions)
        yield study.name, task_from_stored(study, source) if count == 1 else _objectives(count)


def _from_interface(storage: BaseStorage, study_id: int | None, source: str) -> _Read:
    for study in studies_in(storage):
        if study_id is not None and study.study_id != study_id:
            continue
        if len(study.directions) != 1:
            yield study.name, _objectives(len(study.directions))
            continue
        trials = trials_in(storage, study.study_id)
        metafeatures = metafeatures_in(study.attributes.get(TASK_ATTR))
        direction = study.directions[0]
        yield (
            study.name,
            task_from_trials(study.name, trials, direction, metafeatures, source=source),
        )


def _objectives(count: int) -> str:
    return f"{count} objectives"


def _named(source: Source) -> str:
    """Return a source as it may be shown and archived: without its password."""
    if isinstance(source, str):
        return without_passwords(source)
    if isinstance(source, Study):
        return f"study {source.study_name!r}"
    engine = engine_of(source)
    return type(without_cache(source)).__name__ if engine is None else shown(engine.url)


# ---- what is skipped -----------------------------------------------------------------------


def _usable(read: _Read, source: str, exclude: Collection[str]) -> list[Task]:
    """Return the tasks with finished trials; a warning names the studies that are skipped."""
    tasks: list[Task] = []
    skipped: dict[str, str] = {}
    for name, task in read:
        if name in exclude:
            continue
        if isinstance(task, str):
            skipped[name] = task
        elif not task.observed:
            skipped[name] = "no finished trial"
        else:
            tasks.append(task)
    _warn_of_skipped(skipped, source)
    return tasks


def _warn_of_skipped(skipped: Mapping[str, str], source: str) -> None:
    if not skipped:
        return
    named = [f"{name!r} ({why})" for name, why in skipped.items()]
    rest = len(named) - _NAMED_AT_MOST
    listed = ", ".join(named[:_NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
    studies = "study" if len(named) == 1 else "studies"
    message = f"skipped {len(named)} {studies} of {source}: {listed}"
    warnings.warn(message, SourceWarning, stacklevel=5)
