"""A task as a Parquet table: one row per trial, the rest as JSON in the schema's metadata."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from metahpo.archive.errors import ArchiveError
from metahpo.tasks.feasibility import total_violation
from metahpo.tasks.space import Condition, Space
from metahpo.tasks.task import Task, Trial, TrialState

FORMAT_VERSION = 2
# The key in a file's schema metadata that holds everything but the trials, as JSON.
METADATA_KEY = b"metahpo"

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
        "violation": pa.float64(),
    }
)
# The first format had no constraints: all trials in it count as feasible.
_SCHEMAS = {1: SCHEMA.remove(SCHEMA.get_field_index("violation")), FORMAT_VERSION: SCHEMA}

# The task's name is also in the metadata, and rows are ordered by number.
_UNREAD_COLUMNS = ("task", "number")
# Number of hexadecimal digits in a digest.
DIGITS = 12

_STATES = {state.value: state for state in TrialState}


@dataclass(frozen=True, slots=True)
class ArchivedTask:
    """The task in a file, and when it was written (POSIX seconds)."""

    task: Task
    written: float


# ---- task -> table -------------------------------------------------------------------------


def to_table(task: Task) -> tuple[pa.Table, str]:
    """Return a task as a table, and the digest of its content.

    Raises:
        ArchiveError: For a task with a value that JSON cannot hold.
    """
    try:
        description = _description(task)
        columns = _columns(task)
        content = digest([description, columns])
        description["written"] = time.time()
        metadata = {METADATA_KEY: json.dumps(description)}
    except (TypeError, ValueError) as error:
        raise ArchiveError(f"task {task.name!r} cannot be archived: {error}") from error
    table = pa.table(columns, schema=SCHEMA.with_metadata(metadata))
    return table, content


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
        "violation": [float(trial.violation) for trial in trials],
    }


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


# ---- table -> task -------------------------------------------------------------------------


def read(content: bytes) -> ArchivedTask:
    """Return the task in a file.

    Raises:
        ValueError: For a file that does not contain a task, or one of a newer format.
        pa.ArrowException: For a file that is broken or not Parquet.
    """
    file = pq.ParquetFile(pa.BufferReader(content))
    metadata = (file.schema_arrow.metadata or {}).get(METADATA_KEY)
    if metadata is None:
        raise ValueError("it is not a task that metahpo archived")
    try:
        return _to_archived(json.loads(metadata), file)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is damaged: {error!r}") from error


def _to_archived(description: dict[str, Any], file: pq.ParquetFile) -> ArchivedTask:
    if description["version"] > FORMAT_VERSION:
        raise ValueError(
            f"its format version is {description['version']}, "
            f"and this version of metahpo reads up to {FORMAT_VERSION}"
        )
    schema = _SCHEMAS[description["version"]]
    if not file.schema_arrow.equals(schema):
        raise ValueError(f"its columns must be {schema}, got {file.schema_arrow}")
    columns = [name for name in schema.names if name not in _UNREAD_COLUMNS]
    rows = file.read(columns=columns, use_threads=False)
    created = description["created"]
    task = Task(
        name=str(description["name"]),
        space=_space(description),
        trials=tuple(_trials(rows)),
        metafeatures={str(k): float(v) for k, v in description["metafeatures"].items()},
        created=None if created is None else float(created),
        source=str(description["source"]),
    )
    return ArchivedTask(task, float(description["written"]))


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
    """Yield the trials of a table.

    Raises:
        ValueError, KeyError, TypeError: For rows that are not trials.
    """
    columns = {
        name: rows.column(name).to_pylist() for name in rows.column_names if name != "state"
    }
    # All strings parsed as one: faster, and equal names become one object, not one per trial.
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
        map(_violation, columns.get("violation", [0.0] * len(rows))),
    )


def _violation(value: float | None) -> float:
    return total_violation([0.0 if value is None else value])


def _states(column: pa.DictionaryArray) -> list[TrialState]:
    # Look up each of the few distinct strings once: Arrow's own way is ten times slower.
    states = [_STATES[text] for text in column.dictionary.to_pylist()]
    return [states[index] for index in column.indices.to_pylist()]


def _curve(steps: list[float], values: list[float]) -> tuple[tuple[float, float], ...]:
    return tuple(zip(steps, values, strict=True)) if steps or values else ()


# ---- digests -------------------------------------------------------------------------------


def digest(data: Any) -> str:
    """Return hexadecimal digits that differ for data that differs as JSON."""
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:DIGITS]
