"""Where past tasks come from: anything that a plug-in's reader or an archive can read.

Readers are found by the entry-point group ``metahpo.readers``: functions ``(source, **options) ->
Iterable[Task]`` that raise ``SourceError`` where the source is not of their kind. This package
imports none of them, and no plug-in imports another.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from metahpo.archive.archive import Archive
from metahpo.archive.errors import ArchiveError, SourceError
from metahpo.tasks.task import Task

READERS = "metahpo.readers"


def read_source(source: object, **options: Any) -> list[Task]:
    """The tasks of a source, by the first reader that can read it.

    Args:
        source: A task, an archive, or what a reader knows: a text, a path, an object of a host.
        **options: What some readers need to know (``metric``, ``mode``).

    Raises:
        SourceError: Where none can; says what the reader that recognised it says, or what
            each of them says.
    """
    if isinstance(source, Task):
        return [source]
    if isinstance(source, Archive):
        return source.tasks()
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    refusals: list[str] = []
    for reader in sorted(entry_points(group=READERS), key=lambda found: found.name):
        try:
            return list(_load(reader)(source, **options))
        except SourceError as error:
            if error.recognised:
                raise
            refusals.append(f"{reader.name}: {error}")
    if isinstance(source, str):
        try:
            if tasks := Archive(source).tasks():
                return tasks
            refusals.append(f"archive: no tasks in {source}")
        except ArchiveError as error:
            refusals.append(f"archive: {error}")
    raise SourceError(f"no reader can read {source!r} ({'; '.join(refusals)})")


def without_copies(tasks: Iterable[Task], of: Task | None = None) -> list[Task]:
    """The tasks that share no trial with one before them, or with the task ``of``.

    Args:
        tasks: In the order in which they are preferred.
        of: The task at hand, which is never its own history.
    """
    seen = set() if of is None else _marks(of)
    kept: list[Task] = []
    for task in tasks:
        marks = _marks(task)
        if seen.isdisjoint(marks):
            kept.append(task)
            seen |= marks
    return kept


def _marks(task: Task) -> set[tuple[float | None, str]]:
    """What tells a task's trials from all others: when each started, with what.

    Names do not: archives hold many studies of one name, and copies of a study keep its trials.
    """
    return {
        (trial.started, repr(sorted(trial.configuration.items())))
        for trial in task.trials
        if trial.started is not None and trial.configuration
    }


def _load(reader: EntryPoint) -> Any:
    try:
        return reader.load()
    except ImportError as error:
        raise SourceError(f"it is not installed: {error}") from error
