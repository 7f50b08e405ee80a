"""A Parquet file as a task: what is wrong with a row costs that trial, all else costs the file."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from metahpo.archive.digests import digest
from metahpo.archive.file_names import MICROSECONDS, FileName
from metahpo.archive.limits import CONFIGURATION_CHARACTERS, FILE_BYTES
from metahpo.archive.parquet_pages import check_footer, check_pages
from metahpo.archive.task_description import described_task, parse_description, written
from metahpo.archive.task_table import COLUMNS, METADATA_KEY, with_names
from metahpo.tasks.feasibility import total_violation
from metahpo.tasks.task import Task, Trial, TrialState

# Every value of these classes may stand in a configuration.
_ALWAYS_GOOD = {float, str, bool, type(None)}
_TOO_LONG = ValueError(f"its configuration has more than {CONFIGURATION_CHARACTERS:,} characters")
_STATES = {state.value: state for state in TrialState}


@dataclass(frozen=True, slots=True)
class ArchivedTask:
    """The task in a file.

    Attributes:
        task: The task, without the trials that cannot be read.
        version: Larger in the later one of two files with one task.
        faults: What is wrong with each trial that cannot be read.
    """

    task: Task
    version: tuple[int, bool]
    faults: tuple[str, ...]


def read_task(content: bytes, name: FileName | None = None) -> ArchivedTask:
    """Return the task in a file.

    Args:
        content: The file.
        name: Its name, where the archive gave it: the content is compared with the digest in it.

    Raises:
        ValueError: For a file that is not a task, is of a newer format, exceeds a limit or differs
            from the digest in its name.
        pa.ArrowException: For a file that is broken or not Parquet.
    """
    if len(content) > FILE_BYTES:
        raise ValueError(f"it has {len(content):,} bytes, more than {FILE_BYTES:,}")
    check_footer(content)
    source = pa.BufferReader(content)
    footer = pq.read_metadata(source)
    text = (footer.metadata or {}).get(METADATA_KEY)
    if text is None:
        raise ValueError("it is not a task that metahpo archived")
    description = parse_description(text)
    columns = _columns(footer.schema.to_arrow_schema())
    check_pages(content, columns)
    file = pq.ParquetFile(
        source,
        metadata=footer,
        # As many equal texts as there are rows would take any amount of memory.
        read_dictionary=sorted(columns & {"configuration", "user_attributes"}),
        page_checksum_verification=True,
    )
    rows = _columns_of(file.read(columns=sorted(columns), use_threads=False))
    if name is not None:
        _check_digest(name, description, rows)
    trials, faults = _trials(rows, description.get("integer_steps") is True)
    task = described_task(description, tuple(trials))
    return ArchivedTask(task, _version(name, written(description)), tuple(faults))


def _version(name: FileName | None, seconds: float) -> tuple[int, bool]:
    if name is not None and name.stamp:
        return name.stamp, True
    return int(seconds * MICROSECONDS), False


def _columns(schema: pa.Schema) -> frozenset[str]:
    """Return the names of the columns to read.

    Raises:
        ValueError: For a column that is missing, doubled or of another type.
    """
    found: set[str] = set()
    for column in COLUMNS:
        count = schema.names.count(column.name)
        if not count and column.is_optional:
            continue
        if count != 1:
            raise ValueError(f"its columns must include {column.name!r} once, got {count}")
        actual = schema.field(column.name).type
        if not actual.equals(column.type):
            raise ValueError(f"its columns are wrong: {column.name!r} holds {actual}")
        found.add(column.name)
    return frozenset(found)


# ---- rows ----------------------------------------------------------------------------------


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """Return a column of texts as a list; equal ones are one object, as long as they may be."""
    texts: list[str | None] = []
    for chunk in column.chunks:
        # As bytes: what does not decode costs its own row.
        raw = chunk.dictionary.cast(pa.binary()).to_pylist()
        distinct = [text.decode(errors="surrogateescape") for text in raw]
        texts += [None if i is None else distinct[i] for i in chunk.indices.to_pylist()]
    return texts


def _columns_of(table: pa.Table) -> dict[str, list[Any]]:
    return {
        name: _texts(column) if pa.types.is_dictionary(column.type) else column.to_pylist()
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def _trials(
    columns: Mapping[str, list[Any]], integer_steps: bool
) -> tuple[list[Trial], list[str]]:
    """Return the trials of a table, and what is wrong with those that are left out."""
    trials: list[Trial] = []
    faults: list[str] = []
    configurations = _configurations(columns["configuration"])
    attributes = _configurations(columns.get("user_attributes", ()), _attributes)
    attribute_texts = columns.get("user_attributes", [None] * len(columns["configuration"]))
    numbers = [c.name for c in COLUMNS if c.is_number and c.name in columns]
    for row, values in enumerate(zip(*(columns[name] for name in numbers), strict=True)):
        try:
            trials.append(
                Trial(
                    configuration=_or_raise(configurations[columns["configuration"][row]]),
                    state=_state(columns["state"][row]),
                    curve=_curve(
                        columns["curve_steps"][row], columns["curve_values"][row], integer_steps
                    ),
                    # What users noted on a trial is no reason to lose it.
                    user_attributes=_or_nothing(attributes.get(attribute_texts[row])),
                    **_fields(dict(zip(numbers, values, strict=True))),
                )
            )
        except ValueError as error:
            faults.append(f"trial {row}: {error}")
    return trials, faults


def _fields(numbers: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are numbers; a violation is never negative nor NaN."""
    return numbers | {"violation": total_violation([numbers.get("violation") or 0.0])}


def _state(text: str | None) -> TrialState:
    state = _STATES.get(text or "")
    if state is None:
        raise ValueError(f"there is no state {text!r:.50}")
    return state


def _or_nothing(attributes: dict[str, Any] | ValueError | None) -> dict[str, Any]:
    return attributes if isinstance(attributes, dict) else {}


def _or_raise(configuration: dict[str, Any] | ValueError) -> dict[str, Any]:
    if isinstance(configuration, ValueError):
        raise configuration
    return configuration


def _configurations(
    texts: Iterable[str | None],
    check: Callable[[Any], dict[str, Any] | ValueError] | None = None,
) -> dict[str | None, dict[str, Any] | ValueError]:
    """Return the configurations that texts stand for, or what is wrong with them."""
    check = check or _checked
    distinct = dict.fromkeys(texts)
    outcomes: dict[str | None, Any] = {None: ValueError("it has no configuration")}
    good = [t for t in distinct if t is not None and len(t) <= CONFIGURATION_CHARACTERS]
    # All parsed as one: faster, and equal names become one object, not one per trial.
    together = _json(f"[{','.join(good)}]")
    if not isinstance(together, list) or len(together) != len(good):
        together = [_json(text) for text in good]
    outcomes |= {text: check(value) for text, value in zip(good, together, strict=True)}
    return {text: outcomes.get(text, _TOO_LONG) for text in distinct}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return ValueError(f"its configuration is not JSON: {error!s:.100}")


def _attributes(value: Any) -> dict[str, Any] | ValueError:
    return value if isinstance(value, dict) else ValueError("attributes must be a JSON object")


def _checked(configuration: Any) -> dict[str, Any] | ValueError:
    if isinstance(configuration, ValueError):
        return configuration
    if not isinstance(configuration, dict):
        return ValueError("its configuration must be one JSON object")
    for name, value in configuration.items():
        if value.__class__ not in _ALWAYS_GOOD and not _is_finite_integer(value):
            return ValueError(f"hyperparameter {name[:50]!r} must have one value, not too large")
    return configuration


def _is_finite_integer(value: Any) -> bool:
    return isinstance(value, int) and abs(value) <= sys.float_info.max


def _curve(
    steps: list[float | None] | None, values: list[float | None] | None, integer_steps: bool
) -> tuple[tuple[float, float], ...]:
    if steps is None or values is None or len(steps) != len(values):
        raise ValueError("its learning curve must have a value for each step")
    curve = [(s, v) for s, v in zip(steps, values, strict=True) if s is not None and v is not None]
    if len(curve) != len(steps) or not all(math.isfinite(step) for step, _ in curve):
        raise ValueError("the steps and values of its learning curve must be numbers")
    if integer_steps:
        curve = [(int(step) if step.is_integer() else step, value) for step, value in curve]
    return tuple(curve)


# ---- digest --------------------------------------------------------------------------------


def _check_digest(
    name: FileName, description: Mapping[str, Any], columns: Mapping[str, list[Any]]
) -> None:
    """Compare a file's content with the digest in its name.

    Raises:
        ValueError: If they differ.
    """
    described = {key: value for key, value in description.items() if key != "written"}
    content = digest([described, with_names(columns, str(description.get("name")))])
    is_its_time = not name.stamp or written(description) == name.written
    if content != name.content or not is_its_time:
        raise ValueError(
            "its content differs from the digest in its name: it is damaged, or was changed by "
            "hand (then give it another name)"
        )
