"""The one door for histories: whatever a user names as history becomes past tasks here.

What can be read is up to the readers (``metahpo.archive.reader``), which are found by the
entry-point group ``metahpo.readers``. This package imports none of the plug-ins' readers, and no
plug-in imports another.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points

from metahpo.archive.errors import (
    EmptySourceError,
    SourceError,
    UnrecognisedSourceError,
)
from metahpo.archive.reader import Reader, ReadOptions
from metahpo.archive.shown import cause_of, reason_of, shown_source, without_passwords
from metahpo.tasks.task import Task

READERS = "metahpo.readers"
_NO_OPTIONS = ReadOptions()


def read_history(history: object, options: ReadOptions = _NO_OPTIONS) -> list[Task]:
    """Return the past tasks of anything that can be given as history.

    Args:
        history: What a registered reader accepts (a storage or its URL, a study, an archive, a
            path, an experiment folder), a ``Task``, or lists of these, nested at will.
        options: What some readers need besides.

    Returns:
        The tasks of each source in the order of the sources. A list without sources has none.

    Raises:
        TypeError: For an object that no reader accepts.
        ValueError: For an empty string.
        SourceError: For a source that does not exist, that no reader recognises, that cannot be
            read, or that holds no task; names it and says what was looked for.
    """
    sources = checked_sources(history)
    return [task for source in sources for task in _read_source(source, options)]


def checked_sources(history: object) -> tuple[object, ...]:
    """Return the single sources of a history, paths as ``str``, without opening any.

    Args:
        history: As in ``read_history``.

    Raises:
        TypeError: For an object that no reader accepts.
        ValueError: For an empty string.
    """
    return tuple(_flattened(history))


def without_copies(tasks: Iterable[Task], of: Task | None = None) -> list[Task]:
    """Return the tasks that share no trial with an earlier one, or with the task ``of``.

    Args:
        tasks: In order of preference.
        of: The task at hand, which must not be part of its own history.
    """
    seen = set() if of is None else _trial_keys(of)
    kept: list[Task] = []
    for task in tasks:
        keys = _trial_keys(task)
        if seen.isdisjoint(keys):
            kept.append(task)
            seen |= keys
    return kept


# ---- sources -------------------------------------------------------------------------------


def _flattened(history: object) -> Iterator[object]:
    if isinstance(history, str | os.PathLike):
        path = os.fspath(history)
        if not path:
            raise ValueError("history must name a source of past tasks, got an empty string")
        yield path
    elif isinstance(history, Task):
        yield history
    elif isinstance(history, list | tuple):
        for item in history:
            yield from _flattened(item)
    elif any(isinstance(history, reader.types) for reader in _readers().values()):
        # Before other iterables: an archive is one of its tasks.
        yield history
    elif isinstance(history, Iterable) and not isinstance(history, bytes | Mapping):
        for item in history:
            yield from _flattened(item)
    else:
        accepted = ", ".join(reader.accepts for reader in _readers().values())
        raise TypeError(
            f"history must be {accepted}, a Task, or a list of these, got "
            f"{without_passwords(repr(history))} of type {type(history).__name__}"
        )


def _read_source(source: object, options: ReadOptions) -> list[Task]:
    """Return the tasks of a source by the first reader that recognises it."""
    if isinstance(source, Task):
        return [source]
    text = source if isinstance(source, str) else ""
    refusals: list[str] = []
    cause: BaseException | None = None
    for name, reader in _readers().items():
        if not isinstance(source, reader.types):
            continue
        try:
            tasks = list(reader.read(source, options))
        except UnrecognisedSourceError as error:
            refusals.append(f"{name}: {error}")
            continue
        except SourceError:
            raise
        # File systems and drivers raise what they like for a mistyped URL (PermissionError,
        # TypeError, NotImplementedError, ValueError of a port); another reader may read it.
        except Exception as error:
            refusals.append(f"{name}: {reason_of(error, text)}")
            cause = cause_of(error, text)
            continue
        if not tasks:
            missing = reader.looks_for
            raise EmptySourceError(f"{source!r} holds no past task: it lacks {missing}", text)
        return [_without_secrets(task) for task in tasks]
    refusals += [f"{name}: not installed ({reason})" for name, reason in _missing().items()]
    why = "; ".join(refusals)
    raise SourceError(f"no past tasks found in {source!r} ({why})", text) from cause


def _without_secrets(task: Task) -> Task:
    # Whoever wrote the archive, or the reader, may have kept a password.
    shown = shown_source(task.source)
    return task if shown == task.source else replace(task, source=shown)


# ---- readers -------------------------------------------------------------------------------


@cache
def loaded_readers() -> tuple[dict[str, Reader], dict[str, str]]:
    """Return the registered readers, and why others cannot be imported, ordered by name."""
    readers: dict[str, Reader] = {}
    missing: dict[str, str] = {}
    for entry in sorted(entry_points(group=READERS), key=lambda found: found.name):
        try:
            readers[entry.name] = entry.load()()
        except ImportError as error:
            missing[entry.name] = str(error)
    return readers, missing


def _readers() -> dict[str, Reader]:
    return loaded_readers()[0]


def _missing() -> dict[str, str]:
    return loaded_readers()[1]


# ---- copies --------------------------------------------------------------------------------


def _trial_keys(task: Task) -> set[tuple[float | None, str]]:
    """Return what distinguishes a task's trials from all others: start time and configuration.

    Names do not: archives hold many studies of one name, and copies of a study keep its trials.
    """
    return {
        (trial.started, repr(sorted(trial.configuration.items())))
        for trial in task.trials
        if trial.started is not None and trial.configuration
    }
