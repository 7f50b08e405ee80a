"""The past tasks that a sweep may learn from, whatever they were given as."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from metahpo.archive import Archive
from metahpo.archive.sources import read_source, without_copies
from metahpo.tasks.task import Task, Trial

if TYPE_CHECKING:
    from metahpo.suggest import history as suggest_history

ACCEPTED = (
    "the folder or URL of a Ray Tune experiment or of several, the URL or file of an Optuna "
    "storage, an Optuna storage or study, an Archive, the path or URL of an archive, a Task, or a "
    "list of these"
)


class History:
    """Past tasks, read when a sweep first needs them and then remembered.

    Args:
        source: What ``MetaSearch(history=...)`` accepts.

    Raises:
        TypeError: For a source of none of the accepted kinds.
        ValueError: For an empty text.
    """

    def __init__(self, source: object = None) -> None:
        self._sources = () if source is None else _sources(source)
        self._tasks: suggest_history.History | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What was read does not travel.
        return {"_sources": self._sources, "_tasks": None}

    def tasks(self, own: Task, metric: str, mode: str) -> suggest_history.History:
        """The past tasks: never the sweep itself, and no task twice.

        Args:
            own: The sweep so far.
            metric: What Ray's experiments tuned.
            mode: Whether it was to be maximised or minimised.

        Raises:
            SourceError: For a source that cannot be read.
        """
        if self._tasks is None:
            read = (read_source(source, metric=metric, mode=mode) for source in self._sources)
            tasks = without_copies((task for tasks in read for task in tasks), of=own)
            # It imports torch, which takes seconds: who only makes a searcher need not wait.
            from metahpo.suggest import history

            self._tasks = history.History(task for task in tasks if not _is_part_of(task, own))
        return self._tasks


def _is_part_of(past: Task, own: Task) -> bool:
    """Whether a past task is the sweep itself, which is being resumed.

    Its experiment's folder holds no trial but its own.
    """
    names = [name for name in own.space if name in past.space]

    def shown(trial: Trial) -> str:
        # As text: choices may be lists.
        return repr([trial.configuration.get(name) for name in names])

    tried = {shown(trial) for trial in own.trials}
    return bool(names) and bool(past.trials) and all(shown(t) in tried for t in past.trials)


def _sources(given: object) -> tuple[object, ...]:
    if isinstance(given, str | os.PathLike):
        text = os.fspath(given)
        if not text:
            raise ValueError("history must name a source of past tasks, got an empty text")
        return (text,)
    if isinstance(given, Archive | Task):
        return (given,)
    if isinstance(given, bytes | Mapping | numbers.Number):
        raise TypeError(
            f"history must be {ACCEPTED}; got {given!r} of type {type(given).__name__}"
        )
    if isinstance(given, Iterable):
        return tuple(source for item in given for source in _sources(item))
    return (given,)
