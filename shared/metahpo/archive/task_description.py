"""What a file says about its task besides the trials, checked.

Nothing in a file is taken on trust: others write to shared folders, and disks lose bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from metahpo.archive.bounded_json import parse_json
from metahpo.archive.limits import (
    DEEPEST,
    FOOTER_BYTES,
    METAFEATURES,
    MOST_HYPERPARAMETERS,
    NAME_CHARACTERS,
)
from metahpo.archive.task_table import FORMAT_VERSION
from metahpo.tasks.space import Condition, Space
from metahpo.tasks.task import Task, Trial

# What a date can be, POSIX timestamps in seconds.
_EARLIEST = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def parse_description(text: bytes) -> dict[str, Any]:
    """Return the JSON object in a file's metadata.

    Raises:
        ValueError: If it is not one, is too long or nested too deeply, or is of a newer format.
    """
    description = parse_json(text, longest=FOOTER_BYTES)
    version = _of(description, Mapping, "description").get("version")
    if _of(version, int, "format version") > FORMAT_VERSION:
        raise ValueError(
            f"its format version is {version}, and this version of metahpo reads up to "
            f"{FORMAT_VERSION}"
        )
    return description


def described_task(description: Mapping[str, Any], trials: tuple[Trial, ...]) -> Task:
    """Return the task that a description and trials make.

    Raises:
        ValueError: If the description is not that of a task; says what is wrong.
    """
    return Task(
        name=_name(description.get("name"), "name of the task"),
        space=_space(description.get("space"), description.get("conditions")),
        trials=trials,
        metafeatures=_metafeatures(description.get("metafeatures")),
        created=_created(description.get("created")),
        source=_name(description.get("source"), "source"),
        user_attributes=_of(description.get("user_attributes", {}), Mapping, "user attributes"),
    )


def written(description: Mapping[str, Any]) -> float:
    """Return when a file was written, a POSIX timestamp in seconds.

    Raises:
        ValueError: If the description does not say.
    """
    return _finite(description.get("written"), "time of writing")


# ---- parts ---------------------------------------------------------------------------------


def _space(texts: Any, conditions: Any) -> Space:
    texts = _of(texts, Mapping, "search space")
    if len(texts) > MOST_HYPERPARAMETERS:
        raise ValueError(
            f"it has {len(texts):,} hyperparameters, more than {MOST_HYPERPARAMETERS:,}"
        )
    space = Space.from_json(
        {
            _name(name, "name of a hyperparameter"): _of(text, str, "distribution")
            for name, text in texts.items()
        }
    )
    items = _of(conditions, Mapping, "conditions").items()
    found = {name: _condition(condition) for name, condition in items}
    _check_depth({name: condition.parent for name, condition in found.items()})
    return space.with_conditions(found)


def _condition(condition: Any) -> Condition:
    condition = _of(condition, Mapping, "condition")
    at_least = condition.get("at_least")
    if at_least is not None:
        _finite(at_least, "smallest value of a condition")
    return Condition(
        parent=_of(condition.get("parent"), str, "parent of a condition"),
        choices=tuple(_of(condition.get("choices"), list, "choices of a condition")),
        at_least=at_least,
    )


def _check_depth(parents: Mapping[str, str]) -> None:
    for name in parents:
        depth = 0
        while name in parents:
            name, depth = parents[name], depth + 1
            if depth > DEEPEST:
                raise ValueError(
                    "its conditions depend on each other, or on more than "
                    f"{DEEPEST} others in a row"
                )


def _metafeatures(values: Any) -> dict[str, float]:
    values = _of(values, Mapping, "meta-features")
    if len(values) > METAFEATURES:
        raise ValueError(f"it has {len(values):,} meta-features, more than {METAFEATURES:,}")
    return {
        _name(name, "name of a meta-feature"): _number(value, "meta-feature")
        for name, value in values.items()
    }


def _created(value: Any) -> float | None:
    if value is None:
        return None
    created = _finite(value, "creation time")
    if not _EARLIEST <= created <= _LATEST:
        raise ValueError(f"its creation time is not a date: {created}")
    return created


# ---- values --------------------------------------------------------------------------------


def _name(value: Any, what: str) -> str:
    name = _of(value, str, what)
    if len(name) > NAME_CHARACTERS:
        raise ValueError(f"its {what} has {len(name):,} characters, more than {NAME_CHARACTERS:,}")
    return name


def _finite(value: Any, what: str) -> float:
    number = _number(value, what)
    if not math.isfinite(number):
        raise ValueError(f"its {what} must be finite, got {number}")
    return number


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"its {what} must be a number, got {_shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"its {what} is too large") from None


def _of(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        expected = "object" if kind is Mapping else kind.__name__
        raise ValueError(f"its {what} must be a JSON {expected}, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    is_plain = value is None or isinstance(value, str | bool | int | float)
    return f"{value!r:.50}" if is_plain else type(value).__name__
