"""The past tasks of a study: what the user named, or the other studies of its own storage.

What can be named is up to ``metahpo.archive.sources``. Here is what only Optuna needs: the study's
own storage, which is the default and may be empty, and leaving the study itself out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from optuna.storages import BaseStorage
from optuna.study import Study
from sqlalchemy.exc import ArgumentError

from metahpo.archive import Archive
from metahpo.archive.sources import checked_sources, read_history, without_copies
from metahpo.suggest.plugin import kept_history
from metahpo.tasks.task import Task
from optuna_meta._optuna import engine_of, journal_path, storage_of, study_id
from optuna_meta.database_url import sqlite_path
from optuna_meta.storage import read_tasks
from optuna_meta.study_task import study_task

if TYPE_CHECKING:
    from metahpo.suggest.history import History

HistorySource: TypeAlias = str | os.PathLike[str] | BaseStorage | Study | Archive | Task


class StudyHistory:
    """Past tasks, read when a study first needs them and then remembered.

    Pickling leaves out what was read.

    Args:
        history: What ``MetaSampler(history=...)`` accepts; None for the other studies of each
            study's own storage.

    Raises:
        TypeError: For an object that no reader accepts.
        ValueError: For an empty string.
    """

    def __init__(self, history: HistorySource | Iterable[HistorySource] | None = None) -> None:
        self._sources = None if history is None else checked_sources(history)
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"_sources": self._sources}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._sources = state["_sources"]
        self._forget()

    def tasks(self, study: Study) -> History:
        """Return the past tasks for a study: never the study itself, and no task twice.

        Raises:
            SourceError: For a source that cannot be read or holds no task. The study's own
                storage may be empty.
        """
        # Threads of ``n_jobs`` wait for the first of them instead of reading everything again.
        with self._lock:
            read = self._read.setdefault(storage_of(study), {})
            if study_id(study) not in read:
                sources = (storage_of(study),) if self._sources is None else self._sources
                tasks = (task for source in sources for task in _read(source, study))
                read[study_id(study)] = kept_history(without_copies(tasks, of=study_task(study)))
            return read[study_id(study)]

    def _forget(self) -> None:
        self._lock = Lock()
        # What was read for a storage's studies is dropped with the storage.
        self._read: WeakKeyDictionary[BaseStorage, dict[int, History]] = WeakKeyDictionary()


def _read(source: object, study: Study) -> list[Task]:
    if isinstance(source, Study) and source.study_name == study.study_name:
        if _is_own_storage(storage_of(source), study):
            return []
    elif _is_own_storage(source, study):
        # Through its own engine, and without a word about the study itself.
        return read_tasks(storage_of(study), exclude={study.study_name})
    return read_history(source)


def _is_own_storage(source: object, study: Study) -> bool:
    own = storage_of(study)
    place = _place(own)
    return source is own or (place is not None and _place(source) == place)


def _place(source: object) -> tuple[object, ...] | None:
    """Return where a storage keeps its studies; None for one in memory or behind a proxy."""
    if isinstance(source, BaseStorage):
        engine, path = engine_of(source), journal_path(source)
        return _file(path) if engine is None else _database(engine.url)
    if not isinstance(source, str):
        return None
    if "://" not in source:
        return _file(source)
    try:
        return _database(sa.make_url(source))
    except (ArgumentError, ValueError):
        return None


def _database(url: sa.URL) -> tuple[object, ...] | None:
    if url.get_backend_name() == "sqlite":
        return _file(sqlite_path(url))
    return url.get_backend_name(), url.host, url.port, url.database


def _file(path: str | None) -> tuple[object, ...] | None:
    if path is None:
        return None
    try:
        return (Path(path).expanduser().resolve(),)
    except (OSError, ValueError, RuntimeError):
        return None  # no path at all: a null character, or the home of an unknown user
