"""The past tasks a sampler may learn from, whatever they were given as."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from optuna.storages import BaseStorage, RDBStorage, _CachedStorage
from optuna.study import Study
from sqlalchemy.dialects import registry
from sqlalchemy.exc import NoSuchModuleError

from metahpo.archive import Archive
from metahpo.archive.sources import without_copies
from metahpo.tasks.task import Task
from optuna_meta.storage import read_tasks, study_task

if TYPE_CHECKING:
    from metahpo.suggest import history as suggest_history

_Source: TypeAlias = str | BaseStorage | Study | Archive | Task
Past: TypeAlias = _Source | Path

ACCEPTED = (
    "the URL or file of a storage, an Optuna storage, a Study, an Archive, the path or URL of "
    "an archive, a Task, or a list of these"
)


class History:
    """Past tasks, read when a study first needs them and then remembered.

    Args:
        source: What ``MetaSampler(history=...)`` accepts; None for the other studies of each
            study's own storage.

    Raises:
        TypeError: For a source of none of the accepted kinds.
        ValueError: For an empty text.
    """

    def __init__(self, source: Past | Iterable[Past] | None = None) -> None:
        self._sources = None if source is None else _sources(source)
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {"_sources": self._sources}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._sources = state["_sources"]
        self._forget()

    def tasks(self, study: Study) -> suggest_history.History:
        """The past tasks for a study: never the study itself, and no task twice."""
        read = self._read.setdefault(study._storage, {})
        if study._study_id not in read:
            read[study._study_id] = self._tasks(study)
        return read[study._study_id]

    def _tasks(self, study: Study) -> suggest_history.History:
        sources = (study._storage,) if self._sources is None else self._sources
        tasks = [task for source in sources for task in _read(source, study)]
        # It imports torch, which takes seconds: who only makes a sampler need not wait for it.
        from metahpo.suggest import history

        return history.History(without_copies(tasks, of=study_task(study)))

    def _forget(self) -> None:
        # What was read for a storage's studies is dropped with the storage.
        self._read: WeakKeyDictionary[BaseStorage, dict[int, suggest_history.History]] = (
            WeakKeyDictionary()
        )


def _read(source: _Source, study: Study) -> list[Task]:
    if isinstance(source, Task):
        return [source]
    if isinstance(source, Archive):
        return source.tasks()
    if _is_storage_of(study, source):
        return read_tasks(study._storage, exclude={study.study_name})
    return read_tasks(source)


def _is_storage_of(study: Study, source: str | BaseStorage | Study) -> bool:
    if source is study._storage:
        return True
    url = _url(source)
    return url is not None and url == _url(study._storage)


def _url(source: str | BaseStorage | Study) -> str | None:
    if isinstance(source, _CachedStorage):
        source = source._backend
    if isinstance(source, RDBStorage):
        return source.url
    return source if isinstance(source, str) else None


def _sources(given: object) -> tuple[_Source, ...]:
    if isinstance(given, str | Path):
        return (_named(str(given)),)
    if isinstance(given, BaseStorage | Study | Archive | Task):
        return (given,)
    if isinstance(given, Iterable) and not isinstance(given, bytes | Mapping):
        return tuple(source for item in given for source in _sources(item))
    raise TypeError(f"history must be {ACCEPTED}; got {given!r} of type {type(given).__name__}")


def _named(text: str) -> str | Archive:
    """What a text names: a storage, as a URL or a file of its own, or an archive."""
    if not text:
        raise ValueError("history must name a storage or an archive, got an empty text")
    return text if _is_storage_url(text) or Path(text).is_file() else Archive(text)


def _is_storage_url(text: str) -> bool:
    """Whether SQLAlchemy knows the scheme; the others are fsspec's."""
    scheme, separator, _ = text.partition("://")
    if not separator:
        return False
    try:
        registry.load(scheme.partition("+")[0])
    except NoSuchModuleError:
        return False
    return True
