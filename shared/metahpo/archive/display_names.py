"""Names of tasks for people, which are unique among the tasks that are shown together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from metahpo.tasks.task import Task

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_text(seconds: float | None, form: str) -> str | None:
    """Return a POSIX timestamp as text (UTC); None for what is not a date."""
    if seconds is None or not math.isfinite(seconds):
        return None
    try:
        return f"{_EPOCH + timedelta(seconds=seconds):{form}}"
    except OverflowError:
        return None


def with_unique_names(tasks: Iterable[Task]) -> list[Task]:
    """Return tasks under unique names: of those that share one, the first keeps it.

    The others get their creation times appended (``"mnist @ 2025-03-01 12:00:00"``, UTC), or else
    a number. A task's own name, with its creation time, remains what identifies it in archives:
    what is renamed here is for people to read.
    """
    named: dict[str, Task] = {}
    counts: dict[str, int] = {}
    for task in tasks:
        name = task.name
        if name in named and (time := time_text(task.created, "%Y-%m-%d %H:%M:%S")):
            name = f"{name} @ {time}"
        base = name
        while name in named:
            counts[base] = counts.get(base, 1) + 1
            name = f"{base} ({counts[base]})"
        named[name] = task if name == task.name else replace(task, name=name)
    return list(named.values())
