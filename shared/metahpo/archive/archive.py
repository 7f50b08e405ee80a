"""An archive of past tasks: a Parquet dataset with one file per task.

An archive is a folder at any path or fsspec URL. It needs no server and no lock, and pandas,
DuckDB and others read it as one table: ``pd.read_parquet("archive/")``.

A file is complete before it gets its name, and is never changed afterwards. Its name contains a
digest of the task's identity (name and creation time) and one of its content, so that

- adding the same content again, from any number of processes, makes one file and not two;
- processes that add different tasks never write the same file;
- of two files with one identity the later one counts, whichever process wrote it. The earlier
  one is removed by the next process that adds this task; until then readers skip it.

Rows of the table are trials.
"""

from __future__ import annotations

import difflib
import os
import posixpath
import re
import uuid
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from metahpo.archive.errors import ArchiveError, ArchiveWarning, without_passwords
from metahpo.archive.task_table import DIGITS, ArchivedTask, digest, read, to_table
from metahpo.tasks.task import Task

# Concurrent reads: object stores take tens of milliseconds per file.
_READERS = 8
# Unparsed files held in memory at a time.
_BATCH = 64
SUFFIX = ".parquet"
_OUR_FILE_NAME = re.compile(rf"(?P<identity>.*-[0-9a-f]{{{DIGITS}}})-[0-9a-f]{{{DIGITS}}}")

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
        path: A local folder, or an fsspec URL (``s3://bucket/tasks``).

    Raises:
        ArchiveError: For a URL that fsspec cannot open.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self._files, root = fsspec.url_to_fs(os.fspath(path))
        except (OSError, ValueError, ImportError) as error:
            raise ArchiveError(f"cannot open an archive at {str(path)!r}: {error}") from error
        self._root: str = root.rstrip("/") or "/"
        self.path = str(path)

    def __repr__(self) -> str:
        return f"Archive({without_passwords(self.path)!r})"

    # ---- writing ---------------------------------------------------------------------------

    def add(self, task: Task) -> Outcome:
        """Write a task, unless the archive has it already.

        A task is identified by its name and its creation time together. If the archive has that
        pair with other content, the new content replaces it, so that a study can be collected
        again once it has grown. Two studies that merely share a name are both kept (see
        ``tasks``). Safe to call from several processes and machines at once.

        Args:
            task: The task to write.

        Returns:
            Whether it was added, replaced another, or changed nothing.

        Raises:
            ArchiveError: For a task with a value that JSON cannot hold.
        """
        return self._add(task, self._listed_by_identity())

    def extend(self, tasks: Iterable[Task]) -> Counter[Outcome]:
        """Write tasks as ``add`` does, listing the folder once.

        Args:
            tasks: The tasks to write.

        Returns:
            How many were added, replaced others, and changed nothing.

        Raises:
            ArchiveError: As ``add``; the tasks before the failing one have been written.
        """
        listed = self._listed_by_identity()
        return Counter(self._add(task, listed) for task in tasks)

    def _add(self, task: Task, listed: dict[str, set[str]]) -> Outcome:
        table, content = to_table(task)
        identity = _file_identity(task)
        path = posixpath.join(self._root, f"{identity}-{content}{SUFFIX}")
        others = listed.get(identity, set())
        if others == {path}:
            return Outcome.UNCHANGED
        self._write(table, path)
        for other in others - {path}:
            self._remove(other)
        listed[identity] = {path}
        return Outcome.REPLACED if others else Outcome.ADDED

    def _listed_by_identity(self) -> dict[str, set[str]]:
        self._files.makedirs(self._root, exist_ok=True)
        listed: dict[str, set[str]] = {}
        try:
            paths = self._paths()
        except FileNotFoundError:
            # An object store has no empty folders.
            return listed
        for path in paths:
            listed.setdefault(_identity(path), set()).add(path)
        return listed

    def _write(self, table: pa.Table, path: str) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        content = sink.getvalue().to_pybytes()
        # Readers skip names that begin with a dot; so do pandas and Arrow.
        temporary = posixpath.join(self._root, f".{uuid.uuid4().hex}{SUFFIX}")
        try:
            self._files.pipe_file(temporary, content)
            if isinstance(self._files, LocalFileSystem):
                os.replace(temporary, path)  # noqa: PTH105 - fsspec's paths are strings
            else:
                self._files.mv(temporary, path)
        except BaseException:
            self._remove(temporary)
            raise

    def _remove(self, path: str) -> None:
        # Another process may have removed it first.
        try:
            self._files.rm_file(path)
        except FileNotFoundError:
            return

    # ---- reading ---------------------------------------------------------------------------

    def tasks(self) -> list[Task]:
        """Return all tasks, ordered by name.

        A file that is broken, is not a task, or was written in a newer format is skipped with an
        ``ArchiveWarning``. Names are unique here: of tasks that share one, the earliest created
        keeps it and the others get their creation times appended
        (``"mnist @ 2025-03-01 12:00:00"``, UTC).

        Raises:
            ArchiveError: If there is no archive.
        """
        latest: dict[_Key, ArchivedTask] = {}
        # The order of the paths decides between files written in the same instant.
        for archived in self._archived():
            key = (archived.task.name, archived.task.created)
            if key not in latest or archived.written >= latest[key].written:
                latest[key] = archived
        ordered = sorted(latest, key=lambda key: (key[0], -1.0 if key[1] is None else key[1]))
        return _with_unique_names(latest[key].task for key in ordered)

    def names(self) -> list[str]:
        """Return the names of all tasks, as in ``tasks``.

        Raises:
            ArchiveError: If there is no archive.
        """
        return [task.name for task in self.tasks()]

    def task(self, name: str) -> Task:
        """Return the task of this name.

        Args:
            name: As in ``names``.

        Raises:
            ArchiveError: If there is no archive or no such task; suggests similar names.
        """
        tasks = {task.name: task for task in self.tasks()}
        if name not in tasks:
            near = difflib.get_close_matches(name, tasks, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ArchiveError(f"no task {name!r} in {self.path}{hint}")
        return tasks[name]

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks())

    def __len__(self) -> int:
        """Return the number of tasks by file names alone, which includes broken files."""
        return len({_identity(path) for path in self._existing_paths()})

    def _archived(self) -> list[ArchivedTask]:
        """Return the tasks of all readable files, in the order of their paths."""
        read_files: dict[str, ArchivedTask] = {}
        seen: set[str] = set()
        while waiting := [path for path in self._existing_paths() if path not in seen]:
            seen.update(waiting)
            vanished = False
            for path, content in self._contents(waiting):
                if content is None:
                    vanished = True
                elif archived := _read_or_warn(path, content):
                    read_files[path] = archived
            # A file vanishes when another process replaces it: look again for its successor.
            if not vanished:
                break
        return [read_files[path] for path in sorted(read_files)]

    def _contents(self, paths: list[str]) -> Iterator[tuple[str, bytes | OSError | None]]:
        """Yield each path with its content, its error, or None if it no longer exists."""
        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(paths), _BATCH):
                batch = paths[start : start + _BATCH]
                yield from zip(batch, pool.map(self._content, batch), strict=True)

    def _content(self, path: str) -> bytes | OSError | None:
        try:
            return self._files.cat_file(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            return error

    def _existing_paths(self) -> list[str]:
        try:
            return self._paths()
        except FileNotFoundError:
            raise ArchiveError(f"there is no archive at {self.path}") from None
        except OSError as error:
            raise ArchiveError(f"cannot list the archive at {self.path}: {error}") from error

    def _paths(self) -> list[str]:
        """Return the Parquet files in the folder, sorted."""
        self._files.invalidate_cache(self._root)
        found = [path.rstrip("/") for path in self._files.ls(self._root, detail=False)]
        if found == [self._root]:
            raise NotADirectoryError(f"{self.path} is a file")
        return sorted(
            path
            for path in found
            if path.endswith(SUFFIX) and not posixpath.basename(path).startswith((".", "_"))
        )


# ---- names ---------------------------------------------------------------------------------


def _identity(path: str) -> str:
    """Return the part of a file's name that identifies its task."""
    stem = posixpath.basename(path).removesuffix(SUFFIX)
    ours = _OUR_FILE_NAME.fullmatch(stem)
    return ours["identity"] if ours else stem


def _file_identity(task: Task) -> str:
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", task.name)[:60].strip("-._") or "task"
    return f"{readable}-{digest([task.name, task.created])}"


def _with_unique_names(tasks: Iterable[Task]) -> list[Task]:
    """Return tasks, ordered by name and creation time, with unique names."""
    named: dict[str, Task] = {}
    for task in tasks:
        name = task.name
        if name in named:
            assert task.created is not None
            created = datetime.fromtimestamp(task.created, UTC)
            name = f"{name} @ {created:%Y-%m-%d %H:%M:%S}"
        while name in named:
            name += "+"
        named[name] = task if name == task.name else replace(task, name=name)
    return list(named.values())


# ---- files ---------------------------------------------------------------------------------


def _read_or_warn(path: str, content: bytes | OSError) -> ArchivedTask | None:
    try:
        if isinstance(content, OSError):
            raise content
        return read(content)
    except (OSError, ValueError, pa.ArrowException) as error:
        # Called by _archived, called by tasks, called by the user.
        warnings.warn(f"skipped {path}: {error}", ArchiveWarning, stacklevel=4)
        return None
