"""A task as a Parquet table: one row per trial, the rest as JSON in the schema's metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metahpo.archive.bounded_json import parse_json
from metahpo.archive.digests import digest
from metahpo.archive.errors import ArchiveError
from metahpo.archive.limits import CONFIGURATION_CHARACTERS
from metahpo.archive.shown import shown_source
from metahpo.tasks.task import Task, Trial

FORMAT_VERSION = 2
# The key in a file's schema metadata that holds everything but the trials, as JSON.
METADATA_KEY = b"metahpo"

_TEXT = pa.dictionary(pa.int32(), pa.string())
_NUMBER = pa.float64()


class UnarchivableTaskError(ArchiveError):
    """A task holds what an archive cannot keep; the message names it and says what."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table.

    Attributes:
        name: Its name. A column of numbers has the name of the trial's field that it holds.
        type: Its Arrow type.
        value: Its value in a trial's row.
        is_optional: Whether files of before lack it; the trials have the field's default then.
    """

    name: str
    type: pa.DataType
    value: Callable[[Trial], Any]
    is_optional: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it holds a field that is a number or None."""
        return self.type == _NUMBER


# All columns but the task's name and the trial's number, which are for people.
COLUMNS = (
    Column("state", _TEXT, lambda trial: str(trial.state)),
    Column("value", _NUMBER, lambda trial: _number(trial.value)),
    Column("configuration", pa.string(), lambda trial: json.dumps(_plain(trial.configuration))),
    Column("cost", _NUMBER, lambda trial: _number(trial.cost)),
    Column("started", _NUMBER, lambda trial: _number(trial.started)),
    Column("finished", _NUMBER, lambda trial: _number(trial.finished)),
    Column("curve_steps", pa.list_(_NUMBER), lambda trial: [float(s) for s, _ in trial.curve]),
    Column("curve_values", pa.list_(_NUMBER), lambda trial: [float(v) for _, v in trial.curve]),
    # The first format had no constraints: all trials in it are feasible.
    Column("violation", _NUMBER, lambda trial: float(trial.violation), is_optional=True),
    Column(
        "user_attributes",
        pa.string(),
        lambda trial: json.dumps(archivable(trial.user_attributes)),
        is_optional=True,
    ),
)
SCHEMA = pa.schema(
    {"task": _TEXT, "number": pa.int64()} | {column.name: column.type for column in COLUMNS}
)
# Integers above this are not exact as floats.
_LARGEST_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class TaskTable:
    """A task as a table.

    Attributes:
        columns: Values by name of the column, one per trial.
        description: Everything but the trials, as JSON holds it.
        content: Digest of both.
    """

    columns: Mapping[str, list[Any]]
    description: Mapping[str, Any]
    content: str

    def to_parquet(self, written: float) -> bytes:
        """Return a Parquet file.

        Args:
            written: When it is written, a POSIX timestamp in seconds.
        """
        description = {**self.description, "written": written}
        schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps(description)})
        sink = pa.BufferOutputStream()
        table = pa.table(dict(self.columns), schema=schema)
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        return sink.getvalue().to_pybytes()


def to_table(task: Task) -> TaskTable:
    """Return a task as a table.

    Raises:
        UnarchivableTaskError: For a task with a value that JSON cannot hold.
    """
    try:
        description = _description(task)
        columns = {column.name: [column.value(t) for t in task.trials] for column in COLUMNS}
        columns = with_names(columns, task.name)
        return TaskTable(columns, description, digest([description, columns]))
    except (TypeError, ValueError, ArithmeticError, RecursionError) as error:
        message = f"task {task.name!r:.100} cannot be archived: {error}"
        raise UnarchivableTaskError(message, task.source) from error


def with_names(columns: Mapping[str, list[Any]], task: str) -> dict[str, list[Any]]:
    """Return the columns of a task with those for people, in the order of the table."""
    count = len(columns["state"])
    # Arrow holds no lone surrogates; the description has the name as it is.
    shown = task.encode(errors="backslashreplace").decode()
    names = {"task": [shown] * count, "number": list(range(count))}
    return names | {c.name: columns[c.name] for c in COLUMNS if c.name in columns}


def _description(task: Task) -> dict[str, Any]:
    description = {
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
        # A script may have given a URL as it is.
        "source": shown_source(task.source),
    }
    if attributes := archivable(task.user_attributes):
        description["user_attributes"] = attributes
    # The column of steps holds floats.
    return description | ({"integer_steps": True} if _has_integer_steps(task) else {})


def _has_integer_steps(task: Task) -> bool:
    steps = [step for trial in task.trials for step, _ in trial.curve]
    return bool(steps) and all(type(s) is int and abs(s) <= _LARGEST_EXACT for s in steps)


def archivable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that can be read again: JSON within the limits; the others are notes.

    Objects are written as their text.
    """
    kept: dict[str, Any] = {}
    size = 0
    for name, value in attributes.items():
        try:
            text = json.dumps({name: value}, default=str)
            kept |= parse_json(text, longest=CONFIGURATION_CHARACTERS - size)
        except (TypeError, ValueError, RecursionError):
            continue
        size += len(text)
    return kept


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _plain(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with values that survive a round trip through JSON.

    Raises:
        TypeError: For a value other than None, bool, int, float, str and NumPy scalars.
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
