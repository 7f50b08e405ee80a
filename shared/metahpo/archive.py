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
import hashlib
import json
import os
import posixpath
import re
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeAlias

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from metahpo.space import Condition, Space
from metahpo.task import Task, Trial, TrialState

FORMAT_VERSION = 1
# The key in a file's schema metadata under which everything but the trials stands, as JSON.
METADATA_KEY = b"metahpo"
SUFFIX = ".parquet"

SCHEMA = pa.schema(
    {
        "task": pa.dictionary(pa.int32(), pa.string()),
        "number": pa.int64(),
        "state": pa.dictionary(pa.int32(), pa.string()),
        "value": pa.float64(),
        "configuration": pa.string(),
        "cost": pa.float64(),
        "started": pa.float64(),
        "finished": pa.float64(),
        "curve_steps": pa.list_(pa.float64()),
        "curve_values": pa.list_(pa.float64()),
    }
)

# A task's name is in the metadata as well, and its rows are in the order of their numbers.
_READ_COLUMNS = [name for name in SCHEMA.names if name not in ("task", "number")]
# Reads under way at a time: object stores take tens of milliseconds a file.
_READERS = 8
# Files held in memory at a time, as read.
_BATCH = 64
_DIGITS = 12
_OUR_FILE_NAME = re.compile(rf"(?P<identity>.*-[0-9a-f]{{{_DIGITS}}})-[0-9a-f]{{{_DIGITS}}}")

_STATES = {state.value: state for state in TrialState}

_Key: TypeAlias = tuple[str, float | None]


class ArchiveError(ValueError):
    """An archive that cannot be read, or a task that cannot be written; says which and why."""


class SourceError(ValueError):
    """A source of tasks that a reader cannot read; the message names it and says why.

    Args:
        message: What people are told.
        recognised: Whether the source is of the reader's kind, so that no other reader need
            be asked and this message is the one that helps.
    """

    def __init__(self, message: str, *, recognised: bool = False) -> None:
        super().__init__(message)
        self.recognised = recognised


class SourceWarning(UserWarning):
    """A part of a source was passed over; the message names it and says why."""


class ArchiveWarning(SourceWarning):
    """A file of an archive was passed over; the message names it and says why."""


class Outcome(StrEnum):
    """What adding a task did."""

    ADDED = "added"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class _Record:
    task: Task
    written: float


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
        return f"Archive({self.path!r})"

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
        table, identity, content = _to_table(task)
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
        latest: dict[_Key, _Record] = {}
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

    def _records(self) -> list[_Record]:
        """The readable files' records, in the order of their paths."""
        records: dict[str, _Record] = {}
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
    return f"{readable}-{_digest([task.name, task.created])}"


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:_DIGITS]


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


# ---- task -> table -------------------------------------------------------------------------


def _to_table(task: Task) -> tuple[pa.Table, str, str]:
    """A task as a table, with the digests of its identity and its content."""
    try:
        description = _description(task)
        columns = _columns(task)
        content = _digest([description, columns])
        description["written"] = time.time()
        metadata = {METADATA_KEY: json.dumps(description)}
    except (TypeError, ValueError) as error:
        raise ArchiveError(f"task {task.name!r} cannot be archived: {error}") from error
    table = pa.table(columns, schema=SCHEMA.with_metadata(metadata))
    return table, _file_identity(task), content


def _description(task: Task) -> dict[str, Any]:
    return {
        "version": FORMAT_VERSION,
        "name": task.name,
        "space": task.space.to_json(),
        "conditions": {
            name: {
                "parent": condition.parent,
                "choices": list(condition.choices),
                "at_least": condition.at_least,
            }
            for name, condition in task.space.conditions.items()
        },
        "metafeatures": {name: float(value) for name, value in task.metafeatures.items()},
        "created": task.created,
        "source": task.source,
    }


def _columns(task: Task) -> dict[str, list[Any]]:
    trials = task.trials
    return {
        "task": [task.name] * len(trials),
        "number": list(range(len(trials))),
        "state": [str(trial.state) for trial in trials],
        "value": [_number(trial.value) for trial in trials],
        "configuration": [json.dumps(_plain(trial.configuration)) for trial in trials],
        "cost": [_number(trial.cost) for trial in trials],
        "started": [_number(trial.started) for trial in trials],
        "finished": [_number(trial.finished) for trial in trials],
        "curve_steps": [[float(step) for step, _ in trial.curve] for trial in trials],
        "curve_values": [[float(value) for _, value in trial.curve] for trial in trials],
    }


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _plain(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose values JSON gives back as they were.

    Raises:
        TypeError: For a value that is none of None, bool, int, float, str and NumPy's own.
    """
    return {name: _plain_value(name, value) for name, value in configuration.items()}


def _plain_value(name: str, value: Any) -> bool | int | float | str | None:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"hyperparameter {name!r}: a value must be None, bool, int, float or str, got {value!r}"
    )


# ---- table -> task -------------------------------------------------------------------------


def _read_or_warn(path: str, content: bytes | OSError) -> _Record | None:
    try:
        if isinstance(content, OSError):
            raise content
        return _read(content)
    except (OSError, ValueError, pa.ArrowException) as error:
        # Called by _records, called by tasks, called by the user.
        warnings.warn(f"skipped {path}: {error}", ArchiveWarning, stacklevel=4)
        return None


def _read(content: bytes) -> _Record:
    """The record in a file.

    Raises:
        ValueError: For a file that is no task, or a task of a newer format.
        pa.ArrowException: For a file that is broken or not Parquet.
    """
    file = pq.ParquetFile(pa.BufferReader(content))
    metadata = (file.schema_arrow.metadata or {}).get(METADATA_KEY)
    if metadata is None:
        raise ValueError("it is not a task that metahpo archived")
    try:
        return _to_record(json.loads(metadata), file)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is damaged: {error!r}") from error


def _to_record(description: dict[str, Any], file: pq.ParquetFile) -> _Record:
    if description["version"] > FORMAT_VERSION:
        raise ValueError(
            f"its format version is {description['version']}, "
            f"and this version of metahpo reads up to {FORMAT_VERSION}"
        )
    if not file.schema_arrow.equals(SCHEMA):
        raise ValueError(f"its columns must be {SCHEMA}, got {file.schema_arrow}")
    rows = file.read(columns=_READ_COLUMNS, use_threads=False)
    created = description["created"]
    task = Task(
        name=str(description["name"]),
        space=_space(description),
        trials=tuple(_trials(rows)),
        metafeatures={str(k): float(v) for k, v in description["metafeatures"].items()},
        created=None if created is None else float(created),
        source=str(description["source"]),
    )
    return _Record(task, float(description["written"]))


def _space(description: dict[str, Any]) -> Space:
    conditions = {
        str(name): Condition(
            parent=condition["parent"],
            choices=tuple(condition["choices"]),
            at_least=condition["at_least"],
        )
        for name, condition in description["conditions"].items()
    }
    return Space.from_json(description["space"]).with_conditions(conditions)


def _trials(rows: pa.Table) -> Iterator[Trial]:
    """The trials of a table.

    Raises:
        ValueError, KeyError, TypeError: For rows that are no trials.
    """
    columns = {
        name: rows.column(name).to_pylist() for name in rows.column_names if name != "state"
    }
    # All texts in one: faster, and equal names become one object instead of one a trial.
    configurations = json.loads(f"[{','.join(columns['configuration'])}]")
    if len(configurations) != len(rows) or not all(isinstance(c, dict) for c in configurations):
        raise ValueError("each row's configuration must be one JSON object")
    return map(
        Trial,
        configurations,
        columns["value"],
        _states(rows.column("state").combine_chunks()),
        map(_curve, columns["curve_steps"], columns["curve_values"]),
        columns["cost"],
        columns["started"],
        columns["finished"],
    )


def _states(column: pa.DictionaryArray) -> list[TrialState]:
    # Looking up each of the few distinct texts once: Arrow's own way is ten times slower.
    states = [_STATES[text] for text in column.dictionary.to_pylist()]
    return [states[index] for index in column.indices.to_pylist()]


def _curve(steps: list[float], values: list[float]) -> tuple[tuple[float, float], ...]:
    return tuple(zip(steps, values, strict=True)) if steps or values else ()
