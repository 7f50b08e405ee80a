"""A knowledge base of past tasks: a Parquet dataset with one file a task.

An archive is a folder at any path or fsspec URL. It needs no server and no lock, and pandas,
DuckDB and the like read it as one table: ``pd.read_parquet("archive/")``.

A file is complete before it gets its name, and is never changed afterwards. Its name holds a
digest of the task's identity (name and creation time) and one of its content, so that

- adding the same content again, from any number of processes, is one file and not two;
- processes that add different tasks never touch the same file;
- of two files with one identity the later one counts, whichever process wrote it. The earlier
  one is removed by whoever adds that task next; until then readers pass over it.

Notation: a row is a trial; a record is a file's task with the time at which it was written.
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
from metahpo.archive.task_table import DIGITS, Record, digest, read, to_table
from metahpo.tasks.task import Task

# Reads under way at a time: object stores take tens of milliseconds a file.
_READERS = 8
# Files held in memory at a time, as read.
_BATCH = 64
SUFFIX = ".parquet"
_OUR_FILE_NAME = re.compile(rf"(?P<identity>.*-[0-9a-f]{{{DIGITS}}})-[0-9a-f]{{{DIGITS}}}")

_Key: TypeAlias = tuple[str, float | None]


class Outcome(StrEnum):
    """What adding a task did."""

    ADDED = "added"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


class Archive:
    """A knowledge base of past tasks.

    Nothing is read or created before it is needed: the folder appears with the first task.

    Args:
        path: A local folder, or a URL that fsspec knows (``s3://bucket/tasks``).

    Raises:
        ArchiveError: For a URL that fsspec cannot open.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self._files, root = fsspec.url_to_fs(os.fspath(path))
        except (ValueError, ImportError) as error:
            raise ArchiveError(f"cannot open an archive at {str(path)!r}: {error}") from error
        self._root: str = root.rstrip("/") or "/"
        self.path = str(path)

    def __repr__(self) -> str:
        return f"Archive({without_passwords(self.path)!r})"

    # ---- writing ---------------------------------------------------------------------------

    def add(self, task: Task) -> Outcome:
        """Writes a task, unless it is there already.

        A task is known by its name and its creation time together. Where that pair is there
        with other content, the task given replaces it, so that a study can be collected again
        once it has grown. Two studies that merely share a name are both kept (see ``tasks``).
        Safe to call from several processes and machines at once.

        Args:
            task: What to write.

        Returns:
            Whether it was added, replaced another, or was there already.

        Raises:
            ArchiveError: For a task with a value that JSON cannot hold.
        """
        return self._add(task, self._listed_by_identity())

    def extend(self, tasks: Iterable[Task]) -> Counter[Outcome]:
        """Writes tasks as ``add`` does, looking once at what is there.

        Args:
            tasks: What to write.

        Returns:
            How many were added, replaced others, and were there already.

        Raises:
            ArchiveError: As ``add``; the tasks before that one have been written.
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
        # Readers pass over names that begin with a dot; so do pandas and Arrow.
        temporary = posixpath.join(self._root, f".{uuid.uuid4().hex}{SUFFIX}")
        try:
            self._files.pipe_file(temporary, content)
            if isinstance(self._files, LocalFileSystem):
                os.replace(temporary, path)  # noqa: PTH105 - fsspec's paths are texts
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
        """All tasks, in the order of their names.

        A file that is broken, is no task, or was written in a newer format is passed over with
        an ``ArchiveWarning``. Names are unique here: of tasks that share one, the earliest
        created keeps it and the others are told apart by their creation times
        (``"mnist @ 2025-03-01 12:00:00"``, UTC).

        Raises:
            ArchiveError: Where there is no archive.
        """
        latest: dict[_Key, Record] = {}
        # The order of the paths settles what was written in the same instant.
        for record in self._records():
            key = (record.task.name, record.task.created)
            if key not in latest or record.written >= latest[key].written:
                latest[key] = record
        ordered = sorted(latest, key=lambda key: (key[0], -1.0 if key[1] is None else key[1]))
        return _with_unique_names(latest[key].task for key in ordered)

    def names(self) -> list[str]:
        """The names of all tasks, as in ``tasks``.

        Raises:
            ArchiveError: Where there is no archive.
        """
        return [task.name for task in self.tasks()]

    def task(self, name: str) -> Task:
        """The task of this name.

        Args:
            name: As in ``names``.

        Raises:
            ArchiveError: Where there is no archive or no such task; names the nearest.
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
        """The number of tasks by the names of the files alone; broken ones are counted."""
        return len({_identity(path) for path in self._existing_paths()})

    def _records(self) -> list[Record]:
        """The readable files' records, in the order of their paths."""
        records: dict[str, Record] = {}
        seen: set[str] = set()
        while waiting := [path for path in self._existing_paths() if path not in seen]:
            seen.update(waiting)
            vanished = False
            for path, content in self._contents(waiting):
                if content is None:
                    vanished = True
                elif record := _read_or_warn(path, content):
                    records[path] = record
            # A file vanishes when another process replaces it: look again for its successor.
            if not vanished:
                break
        return [records[path] for path in sorted(records)]

    def _contents(self, paths: list[str]) -> Iterator[tuple[str, bytes | OSError | None]]:
        """Each path with its content, what went wrong, or None where it is no longer there."""
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
        """The Parquet files in the folder, sorted."""
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
    """The part of a file's name that says which task it holds."""
    stem = posixpath.basename(path).removesuffix(SUFFIX)
    ours = _OUR_FILE_NAME.fullmatch(stem)
    return ours["identity"] if ours else stem


def _file_identity(task: Task) -> str:
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", task.name)[:60].strip("-._") or "task"
    return f"{readable}-{digest([task.name, task.created])}"


def _with_unique_names(tasks: Iterable[Task]) -> list[Task]:
    """Tasks, ordered by name and creation time, with names that tell them apart."""
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


def _read_or_warn(path: str, content: bytes | OSError) -> Record | None:
    try:
        if isinstance(content, OSError):
            raise content
        return read(content)
    except (OSError, ValueError, pa.ArrowException) as error:
        # Called by _records, called by tasks, called by the user.
        warnings.warn(f"skipped {path}: {error}", ArchiveWarning, stacklevel=4)
        return None
