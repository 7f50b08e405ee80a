"""An archive of past tasks: a Parquet dataset with one file per task.

An archive is a folder at any path or fsspec URL. It needs no server and no lock, and pandas,
DuckDB and others read it as one table: ``pd.read_parquet("archive/")``.

A file appears under its name as a whole and is never changed afterwards. Its name contains a
digest of the task's identity (name and creation time), one of its content, and, in all versions of
a task but the first, a stamp that is larger than those of the versions it replaces
(``file_names``). Hence

- adding the same content again, from any number of processes, makes one file and not two;
- processes that add different tasks never write the same file;
- **no task is ever lost**: a writer removes only what it has seen in the folder, and only after
  its own version, with a larger stamp, is complete. Before the first version with a stamp nothing
  is removed; after it, the complete version with the largest stamp is never removed, whoever
  writes and whoever is killed;
- of two files with one identity the one written later counts. The earlier one is removed by the
  next process that adds this task; until then readers skip it.

Rows of the table are trials. What is wrong with a row costs that trial, what is wrong with a file
costs that file; ``limits`` has how much is read.
"""

from __future__ import annotations

import difflib
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import TypeAlias

import pyarrow as pa

from metahpo.archive.display_names import with_unique_names
from metahpo.archive.errors import ArchiveError, ArchiveWarning
from metahpo.archive.file_names import FileName, identity_of
from metahpo.archive.folder_reading import listed, read_folder
from metahpo.archive.place import Entry, Place
from metahpo.archive.shown import shown_source
from metahpo.archive.task_file import ArchivedTask, read_task
from metahpo.archive.task_table import UnarchivableTaskError, to_table
from metahpo.tasks.task import Task

_Key: TypeAlias = tuple[str, float | None]


class Outcome(StrEnum):
    """The effect of adding a task."""

    ADDED = "added"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


class Archive:
    """An archive of past tasks.

    Nothing is read or created before it is needed: the folder appears with the first task.

    Args:
        path: A local folder, or an fsspec URL (``s3://bucket/tasks``), which has ``://`` in it.

    Raises:
        ArchiveError: For a URL that fsspec cannot open.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._place = Place(path)
        self.path = self._place.path

    def __repr__(self) -> str:
        return f"Archive({shown_source(self.path)!r})"

    # ---- writing ---------------------------------------------------------------------------

    def add(self, task: Task) -> Outcome:
        """Write a task, unless the archive has it already.

        A task is identified by its name and its creation time together. If the archive has that
        pair with other content, the new content replaces it, so that a study can be collected
        again once it has grown. Two studies that merely share a name are both kept. Safe to call
        from several processes and machines at once.

        Args:
            task: The task to write.

        Returns:
            Whether it was added, replaced another, or changed nothing.

        Raises:
            ArchiveError: For a task that could not be read again (a value that JSON cannot hold,
                more than ``limits`` allows), and where the archive cannot be written to.
        """
        return self._add(task, self._versions())

    def extend(self, tasks: Iterable[Task]) -> Counter[Outcome]:
        """Write tasks as ``add`` does, listing the folder once.

        A task that could not be read again is skipped with an ``ArchiveWarning`` that names it.

        Args:
            tasks: The tasks to write.

        Returns:
            How many were added, replaced others, and changed nothing.

        Raises:
            ArchiveError: If the archive cannot be written to; the tasks before have been written.
        """
        versions = self._versions()
        outcomes: Counter[Outcome] = Counter()
        for task in tasks:
            try:
                outcomes[self._add(task, versions)] += 1
            except UnarchivableTaskError as error:
                warnings.warn(f"skipped: {error}", ArchiveWarning, stacklevel=2)
        return outcomes

    def _add(self, task: Task, versions: dict[str, list[Entry]]) -> Outcome:
        table = to_table(task)
        identity = identity_of(task)
        others = versions.get(identity, [])
        names = [other.parts for other in others if other.parts]
        is_there = [name.content for name in names] == [table.content]
        if is_there and self._is_whole(others[0]):
            return Outcome.UNCHANGED
        now = time.time()
        name = FileName(identity, table.content).replacing(names, now)
        content = table.to_parquet(written=name.written or now)
        _check_readable(content, name, task)
        versions[identity] = [self._place.write(str(name), content)]
        # Only now, and nothing that was not listed before: see the head of this file.
        for other in others:
            self._place.remove(other)
        return Outcome.REPLACED if others else Outcome.ADDED

    def _is_whole(self, entry: Entry) -> bool:
        """Whether a file can be read: readers skip a damaged one, which must be written again."""
        try:
            content = self._place.read(entry)
            # None: another process has just replaced it.
            return content is None or not read_task(content, entry.parts).faults
        # Whatever a broken file makes Arrow raise costs that file alone.
        except Exception:
            return False

    def _versions(self) -> dict[str, list[Entry]]:
        """Return the files of each task in the folder, by identity; makes the folder."""
        self._place.make()
        versions: dict[str, list[Entry]] = {}
        try:
            entries = self._place.entries(sizes=False, tidy=True)
        except FileNotFoundError:
            # An object store has no empty folders.
            return versions
        for entry in entries:
            if entry.parts:
                versions.setdefault(entry.identity, []).append(entry)
        return versions

    # ---- reading ---------------------------------------------------------------------------

    def tasks(self) -> list[Task]:
        """Return all tasks, ordered by name and creation time.

        A file that is broken, is not a task, was written in a newer format or exceeds a limit is
        skipped with an ``ArchiveWarning``, and so is a trial that is broken. Several tasks may
        have one name; ``names`` tells them apart.

        Raises:
            ArchiveError: If there is no archive, or it cannot be listed.
        """
        latest: dict[_Key, ArchivedTask] = {}
        # The order of the names decides between files written in the same instant.
        for archived in read_folder(self._place):
            key = (archived.task.name, archived.task.created)
            if key not in latest or archived.version >= latest[key].version:
                latest[key] = archived
        return [latest[key].task for key in sorted(latest, key=_by_name_and_time)]

    def names(self) -> list[str]:
        """Return unique names of all tasks, in the order of ``tasks``.

        Of tasks that share a name, the earliest created keeps it and the others get their creation
        times appended (``"mnist @ 2025-03-01 12:00:00"``, UTC).

        Raises:
            ArchiveError: As ``tasks``.
        """
        return [task.name for task in with_unique_names(self.tasks())]

    def task(self, name: str) -> Task:
        """Return the task of this name.

        Args:
            name: As in ``names``.

        Raises:
            ArchiveError: As ``tasks``, and if there is no such task; suggests similar names.
        """
        tasks = self.tasks()
        shown = [task.name for task in with_unique_names(tasks)]
        if name not in shown:
            near = difflib.get_close_matches(name, shown, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ArchiveError(f"no task {name!r} in {self.path}{hint}", self.path)
        return tasks[shown.index(name)]

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks())

    def __len__(self) -> int:
        """Return the number of tasks by file names alone, which includes broken files."""
        return len({entry.identity for entry in listed(self._place)})


def _by_name_and_time(key: _Key) -> tuple[str, bool, float]:
    name, created = key
    return name, created is not None, created or 0.0


def _check_readable(content: bytes, name: FileName, task: Task) -> None:
    """Check a file before it is written: an archive takes nothing that it does not give back.

    Raises:
        UnarchivableTaskError: If the file, or one of its trials, could not be read.
    """
    try:
        faults = read_task(content, name).faults
    except (ValueError, pa.ArrowException) as error:
        faults = (str(error),)
    if faults:
        message = f"task {task.name!r:.100} cannot be archived: {faults[0]}"
        raise UnarchivableTaskError(message, task.source)
