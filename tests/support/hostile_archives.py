"""Archive files that are broken or mean harm, made from good ones by seeded mutation."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo import Space, Task, Trial
from metahpo.archive.file_names import FileName, identity_of
from metahpo.archive.task_table import METADATA_KEY, to_table
from metahpo.tasks.space import Condition
from metahpo.tasks.task import TrialState

GOOD = Task(
    "good",
    Space(
        {
            "lr": FloatDistribution(1e-5, 1.0, log=True),
            "layers": IntDistribution(1, 4),
            "width": IntDistribution(8, 64, step=8),
            "act": CategoricalDistribution((None, True, 1, 2.5, "relu")),
        },
        {"width": Condition("layers", at_least=2), "act": Condition("layers", at_least=1)},
    ),
    tuple(
        Trial(
            {"lr": 0.1 / n, "layers": 1 + n % 4, "act": "relu"} | ({"width": 8} if n % 4 else {}),
            value=n / 10,
            state=list(TrialState)[n % 3],
            curve=tuple((step, step / n) for step in range(n % 5)),
            cost=float(n),
            started=1.7e9 + n,
        )
        for n in range(1, 13)
    ),
    {"rows": 60000.0, "classes": 10.0},
    created=1.7e9,
    source="sqlite:///hpo.db",
)
# What stands for a value in JSON; json.dumps cannot make all of them.
_NESTED = "[" * 1000 + "]" * 1000
HOSTILE_JSON = (
    *("null", "true", "0", "-1", "1", "2.5", "1e300", "-1e300", "5e-324", "1e400", "NaN"),
    *("-Infinity", "1" + "0" * 400, "-1" + "0" * 5000, '""', '"x"', '"\\u001b[31m"', '"\\ud800"'),
    *('"\\u0000"', '"' + "x" * 100_000 + '"', "[]", "[[]]", "{}", '{"a": 1}', '{"": null}'),
    *('["lr"]', '{"lr": "{}"}', _NESTED, '{"a":' * 900 + "1" + "}" * 900),
)
HOSTILE_NUMBERS = (None, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, -0.0, 1e100)
HOSTILE_CURVES = (None, [], [None], [np.nan], [np.inf], [1e308, 1.0], [5e-324, 5e-324], [2.0, 1.0])
_PLACEHOLDER = "@@"


def file_of(task: Task, written: float = 1.7e9) -> tuple[str, bytes]:
    """Return the name and content of a task's file."""
    table = to_table(task)
    return str(FileName(identity_of(task), table.content)), table.to_parquet(written)


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with one to three places damaged."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(data)))
        length = int(rng.integers(1, 64))
        match rng.integers(6):
            case 0 | 1:
                data[at] ^= 1 << int(rng.integers(8))
            case 2:
                data[at : at + length] = rng.bytes(length)
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                data[at:] = data[at:][: int(rng.integers(1, len(data)))]
        if not data:
            return b""
    return bytes(data)


def hostile_files(rng: np.random.Generator, count: int) -> Iterator[bytes]:
    """Yield valid Parquet files whose descriptions or rows hold hostile values."""
    for number in range(count):
        # Tasks of their own, so that none counts as another version of the good one.
        task = replace(GOOD, name=f"hostile {number}", created=1.6e9 + number)
        _, content = file_of(task)
        yield _with_row(content, rng) if number % 2 else _with_description(content, rng)


def _with_description(content: bytes, rng: np.random.Generator) -> bytes:
    table = pq.read_table(pa.BufferReader(content))
    description = json.loads(table.schema.metadata[METADATA_KEY])
    value = HOSTILE_JSON[rng.integers(len(HOSTILE_JSON))]
    parent, key = _place(description, rng)
    if parent is description["space"] and rng.random() < 0.8:
        parent[key] = _hostile_distribution(value, rng)
    elif rng.random() < 0.1:
        del parent[key]
    else:
        parent[key] = _PLACEHOLDER
    if rng.random() < 0.1:
        description["conditions"] = {
            "width": {"parent": "act", "choices": [1], "at_least": None},
            "act": {"parent": "width", "choices": [8], "at_least": None},
        }
    text = json.dumps(description).replace(f'"{_PLACEHOLDER}"', value)
    return _written(table.replace_schema_metadata({METADATA_KEY: text}))


def _place(description: dict[str, Any], rng: np.random.Generator) -> tuple[dict[str, Any], str]:
    parent = description
    while True:
        key = str(rng.choice(sorted(parent)))
        inner = parent[key]
        if not isinstance(inner, dict) or not inner or rng.random() < 0.2:
            return parent, key
        parent = inner


def _hostile_distribution(value: str, rng: np.random.Generator) -> str:
    kind = rng.choice(["Float", "Int", "Categorical"])
    attributes = {"low": "1", "high": "3", "step": "null" if kind == "Float" else "1"}
    attributes |= {"log": "false"}
    if kind == "Categorical":
        attributes = {"choices": f"[1, {value}]"}
    key = str(rng.choice(sorted(attributes)))
    attributes[key] = value if kind != "Categorical" else attributes[key]
    inside = ", ".join(f'"{name}": {text}' for name, text in attributes.items())
    return f'{{"name": "{kind}Distribution", "attributes": {{{inside}}}}}'


def _with_row(content: bytes, rng: np.random.Generator) -> bytes:
    table = pq.read_table(pa.BufferReader(content))
    name = str(rng.choice([n for n in table.column_names if n not in ("task", "number")]))
    values = table.column(name).to_pylist()
    row = int(rng.integers(len(values)))
    values[row] = _hostile_value(name, rng)
    if name in ("configuration", "user_attributes") and rng.random() < 0.2:
        values[row] = "{" * int(rng.integers(3)) + '"' + str(values[row])
    index = table.schema.get_field_index(name)
    field = table.schema.field(index)
    return _written(table.set_column(index, field, pa.array(values, field.type)))


def _hostile_value(name: str, rng: np.random.Generator) -> Any:
    if name == "state":
        return rng.choice(["no state", "", "COMPLETE", "\x1b[2J", "x" * 10_000])
    if name in ("configuration", "user_attributes"):
        value = HOSTILE_JSON[rng.integers(len(HOSTILE_JSON))]
        key = rng.choice(["lr", "layers", "act", "\\u001b[31m", "\\ud800", "x" * 1000])
        return value if rng.random() < 0.2 else f'{{"{key}": {value}}}'
    choices = HOSTILE_CURVES if name.startswith("curve") else HOSTILE_NUMBERS
    return choices[rng.integers(len(choices))]


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()
