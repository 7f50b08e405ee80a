"""What fuzzers of readers share: values that no tuning left behind, and the property to hold."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from metahpo.archive import SourceError, SourceWarning
from metahpo.tasks.task import Task

DEEP = "[" * 5000 + "]" * 5000
# Deep enough to fail in Python's own functions, not so deep that JSON's parser fails.
NESTED = "[" * 400 + "]" * 400


def distribution(kind: str, **attributes: Any) -> str:
    return json.dumps({"name": f"{kind}Distribution", "attributes": attributes})


DISTRIBUTIONS = [
    "", "{", "null", "[]", "1", '"x"', "{}", DEEP, NESTED, "\x00", '{"name": []}',
    distribution("Unknown"), distribution("Float"), distribution("Float", low=None, high=1),
    distribution("Float", low=-np.inf, high=np.inf, log=False, step=None),
    distribution("Float", low=np.nan, high=1.0, log=False, step=None),
    distribution("Float", low=-1.7e308, high=1.7e308, log=False, step=None),
    distribution("Float", low="0", high="1", log=False, step=None),
    distribution("Float", low=2.0, high=1.0, log=False, step=None),
    distribution("Float", low=0.0, high=1.0, log=True, step=None),
    distribution("Float", low=0.0, high=1.0, log=False, step=5e-324),
    distribution("Float", low=0.0, high=1.0, log=False, step=np.inf),
    distribution("Float", low=0.0, high=1.0, log=False, step=-1.0),
    distribution("Float", low=0.0, high=1.0, log=[], step={}),
    distribution("Int", low=0, high=10**400, log=False, step=1),
    distribution("Int", low=0.5, high=1.5, log=False, step=1),
    distribution("Int", low=0, high=9, log=False, step=0),
    distribution("Int", low=True, high="9", log=False, step=None),
    distribution("Categorical", choices=[]), distribution("Categorical", choices=None),
    distribution("Categorical", choices="abc"), distribution("Categorical", choices={"a": 1}),
    distribution("Categorical", choices=[json.loads(NESTED)]),
    distribution("Categorical", choices=[[1, 2], {"a": []}, None]),
    distribution("Categorical", choices=[np.nan, np.nan]),
    distribution("Categorical", choices=["\ud800", "\x1b[31m"]),
    distribution("Uniform", low=0), distribution("LogUniform", low=0.0, high=np.inf),
    distribution("DiscreteUniform", low=0.0, high=1.0, q=0.0),
]  # fmt: skip
NUMBERS = [
    None, np.inf, -np.inf, 1e308, -1e308, 5e-324, 2**62, -(2**62), -1, 0.5, "", "text", "nan",
    b"\xff\x00", True, 0, 99,
]  # fmt: skip
TEXTS = ["", None, 0, 1.5, b"\xff\xfe", "\x1b[2J\x1b]0;x\x07", "\u202e", "x" * 3_000_000, "\x00"]
DATES = ["", "yesterday", "2025-99-99", "0001-01-01 00:00:00", "9999-12-31T23:59:59.999999+14:00",
         0, -1, 1e300, b"\xff", "2025-03-01T12:00:00Z", DEEP]  # fmt: skip
STATES = [None, "", "complete", "DONE", 1, b"COMPLETE", "RUNNING", "WAITING", "FAIL", "PRUNED"]


def mutated(content: bytes, random_numbers: random.Random) -> bytes:
    """Return bytes with some flipped, cut out, repeated or appended."""
    data = bytearray(content)
    match random_numbers.randrange(4):
        case 0:
            for _ in range(random_numbers.randint(1, 20)):
                data[random_numbers.randrange(len(data))] = random_numbers.randrange(256)
        case 1:
            del data[random_numbers.randrange(len(data)) :]
        case 2:
            start = random_numbers.randrange(len(data))
            del data[start : start + random_numbers.randint(1, 500)]
        case _:
            start = random_numbers.randrange(len(data))
            data[start:start] = data[max(0, start - 300) : start]
    return bytes(data)


def read_carefully(read: Callable[[], list[Task]]) -> list[Task]:
    """Return the tasks of a source, which may be none; anything undocumented fails the test.

    Documented are a ``SourceError`` and at most one ``SourceWarning`` for a source.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tasks = read()
        except SourceError as error:
            check_message(str(error))
            tasks = []
    assert all(issubclass(warning.category, SourceWarning) for warning in caught), caught
    assert len(caught) <= 1, [str(warning.message) for warning in caught]
    for warning in caught:
        check_message(str(warning.message))
    for task in tasks:
        check_task(task)
    return tasks


def check_message(text: str) -> None:
    assert text.isprintable()
    assert len(text) < 3000
    text.encode()


def check_task(task: Task) -> None:
    """Check that whoever takes a task can use what it claims."""
    task.name.encode()
    assert all(np.isfinite(value) for value in task.metafeatures.values())
    assert np.isfinite(task.values).all()
    points = task.space.encode([trial.configuration for trial in task.trials])
    assert not np.isinf(points).any()
    inside = np.full((3, len(task.space)), 0.3)
    decoded = task.space.decode(inside)
    assert task.space.encode(decoded).shape == inside.shape
    assert all(isinstance(level, int) for level in task.space.levels)
    for trial in task.trials:
        assert set(trial.configuration) <= set(task.space)
        repr(trial)
