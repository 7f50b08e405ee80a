"""Reading Optuna's storages as past tasks.

Databases are read with plain queries for all studies at once, which takes seconds where Optuna's
own interface, trial by trial, takes a minute; journal files line by line. Any other storage is
read through Optuna's interface. Nothing is ever written, and no file is created.

What is wrong with a row costs its trial, what is wrong with a study costs that study; one warning
per source names them.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from optuna.storages import BaseStorage
from optuna.study import Study

from metahpo.archive import ReadOptions, SourceWarning, UnrecognisedSourceError
from metahpo.archive.errors import EmptySourceError
from metahpo.archive.shown import reason_of, shown_source
from metahpo.tasks.task import Task
from optuna_meta._optuna import (
    engine_of,
    storage_of,
    studies_in,
    study_id,
    trials_in,
    without_cache,
)
from optuna_meta.database import read_studies
from optuna_meta.database_url import read_sqlite, read_url, shown
from optuna_meta.journal import read_journal
from optuna_meta.sqlite_file import MAGIC, head
from optuna_meta.stored_study import StoredStudy
from optuna_meta.study_task import (
    TASK_ATTR,
    metafeatures_in,
    task_from_stored,
    task_from_trials,
    without_broken,
)

Source: TypeAlias = str | BaseStorage | Study

_NAMED_AT_MOST, _LONGEST_REASON = 5, 200
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
            options: Whether to read user attributes; studies store their directions.

        Raises:
            UnrecognisedSourceError: For a string that names no Optuna storage.
            SourceError: For a storage that cannot be read or that holds no task.
        """
        tasks = read_tasks(source, user_attributes=options.user_attributes)
        if not tasks:
            message = f"{_named(source)} holds no past task: it lacks {self.looks_for}"
            raise EmptySourceError(message)
        return tasks


def read_tasks(
    source: Source, *, exclude: Collection[str] = (), user_attributes: bool = False
) -> list[Task]:
    """Return the studies of a source as tasks, in the order in which they were created.

    Studies with several objectives and studies without a finished trial are skipped; one
    ``SourceWarning`` per storage names them.

    Args:
        source: A storage URL, the path of an SQLite or journal file, an Optuna storage or a
            study.
        exclude: Names of studies to leave out.
        user_attributes: Whether to read those of studies and trials.

    Raises:
        SourceError: For a URL or path that is not an Optuna storage or cannot be read.
    """
    with _collection_paused():
        if isinstance(source, str):
            return _read_string(source, exclude, user_attributes)
        if isinstance(source, Study):
            return _read_storage(storage_of(source), study_id(source), exclude, user_attributes)
        return _read_storage(source, None, exclude, user_attributes)


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


@dataclass(frozen=True, slots=True)
class _Found:
    """A study of a source.

    Attributes:
        name: Its name.
        task: The study as a task; None if it is skipped.
        why: Why it is skipped.
        broken_trials: What is wrong with each trial that was left out.
    """

    name: str
    task: Task | None = None
    why: str = ""
    broken_trials: Sequence[str] = ()


def _read_string(source: str, exclude: Collection[str], user_attributes: bool) -> list[Task]:
    if "://" in source:
        studies, name = read_url(source, TASK_ATTR, user_attributes=user_attributes)
        return _usable(_from_stored(studies, name), name, exclude)
    path = Path(source).expanduser()
    start = _start_of(path)
    if start.startswith(MAGIC):
        studies, name = read_sqlite(path, TASK_ATTR, user_attributes=user_attributes)
        return _usable(_from_stored(studies, name), name, exclude)
    if _JOURNAL_MARK in start:
        studies, note = read_journal(path, TASK_ATTR, user_attributes=user_attributes)
        return _usable(_from_stored(studies, source), source, exclude, note)
    raise UnrecognisedSourceError("neither an SQLite file nor a journal file of Optuna")


def _start_of(path: Path) -> bytes:
    """Return the first bytes of a file.

    Raises:
        UnrecognisedSourceError: For anything but a regular file that can be read.
    """
    try:
        if path.is_file():
            return head(path, 4096)
    # A path may also hold what no path can (a null character).
    except (OSError, ValueError) as error:
        raise UnrecognisedSourceError(f"cannot open it: {reason_of(error)}") from error
    raise UnrecognisedSourceError("neither a storage URL nor a file")


def _read_storage(
    storage: BaseStorage, study_id: int | None, exclude: Collection[str], user_attributes: bool
) -> list[Task]:
    engine, name = engine_of(storage), _named(storage)
    if engine is None:
        found = _from_interface(without_cache(storage), study_id, name, user_attributes)
    else:
        studies = read_studies(engine, TASK_ATTR, study_id, name, user_attributes=user_attributes)
        found = _from_stored(studies, name)
    return _usable(found, name, exclude)


def _from_stored(studies: Iterable[StoredStudy], source: str) -> Iterator[_Found]:
    for study in studies:
        if study.broken is not None or len(study.directions) != 1:
            yield _Found(study.name, why=study.broken or _objectives(len(study.directions)))
        else:
            yield _Found(
                study.name, task_from_stored(study, source), broken_trials=study.broken_trials
            )


def _from_interface(
    storage: BaseStorage, study_id: int | None, source: str, user_attributes: bool
) -> Iterator[_Found]:
    for study in studies_in(storage):
        if study_id is not None and study.study_id != study_id:
            continue
        if len(study.directions) != 1:
            yield _Found(study.name, why=_objectives(len(study.directions)))
            continue
        trials, broken = without_broken(trials_in(storage, study.study_id))
        metafeatures = metafeatures_in(study.attributes.get(TASK_ATTR))
        direction = study.directions[0]
        noted = study.user_attributes if user_attributes else None
        task = task_from_trials(
            study.name, trials, direction, metafeatures, source=source, user_attributes=noted
        )
        yield _Found(study.name, task, broken_trials=broken)


def _objectives(count: int) -> str:
    return f"{count} objectives"


def _named(source: Source) -> str:
    """Return a source as it may be shown and archived: without its password."""
    if isinstance(source, str):
        return shown_source(source)
    if isinstance(source, Study):
        return f"study {source.study_name!r}"
    engine = engine_of(source)
    return type(without_cache(source)).__name__ if engine is None else shown(engine.url)


# ---- what is skipped -----------------------------------------------------------------------


def _usable(
    found: Iterable[_Found], source: str, exclude: Collection[str], note: str = ""
) -> list[Task]:
    """Return the tasks with finished trials; one warning names what is left out."""
    tasks: list[Task] = []
    skipped: list[str] = []
    reduced: list[str] = []
    for study in found:
        if study.name in exclude:
            continue
        lost = _lost(study.broken_trials)
        if study.task is None or not study.task.observed:
            why = study.why or ("no finished trial" + (f", {lost}" if lost else ""))
            skipped.append(f"{study.name!r} ({why})")
            continue
        tasks.append(study.task)
        if lost:
            reduced.append(f"{study.name!r} ({lost})")
    parts = [_counted(skipped, "", source), _counted(reduced, "broken trials of ", source)]
    if note:
        parts.append(f"skipped {note} of {source}")
    if message := "; ".join(filter(None, parts)):
        warnings.warn(message, SourceWarning, stacklevel=5)
    return tasks


def _lost(reasons: Sequence[str]) -> str:
    if not reasons:
        return ""
    count = "1 trial is broken" if len(reasons) == 1 else f"{len(reasons)} trials are broken"
    return f"{count}: {reasons[0][:_LONGEST_REASON]}"


def _counted(named: Sequence[str], what: str, source: str) -> str:
    """Return how many studies were skipped, and the first of them by name."""
    if not named:
        return ""
    rest = len(named) - _NAMED_AT_MOST
    listed = ", ".join(named[:_NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
    studies = "study" if len(named) == 1 else "studies"
    return f"skipped {what}{len(named)} {studies} of {source}: {listed}"
