"""Tasks, spaces and configurations as lines of text.

Names come from others' files: what a terminal might obey is escaped in every line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from metahpo.archive.display_names import time_text
from metahpo.archive.shown import printable
from metahpo.tasks.space import Configuration
from metahpo.tasks.task import Task, Trial

# Configurations listed per task.
BEST = 5
# Characters of a list of names, at most.
LONGEST_LIST = 60


def task_table(tasks: Sequence[Task]) -> list[str]:
    """Return a header and one line per task."""
    rows = [
        (
            task.name,
            str(len(task.trials)),
            _number(None if (best := task.best) is None else best.value),
            textwrap.shorten(", ".join(task.space) or "-", LONGEST_LIST, placeholder=" ..."),
            str(len(task.metafeatures)),
            _time(task.created),
        )
        for task in tasks
    ]
    header = ("task", "trials", "best", "hyperparameters", "meta-features", "created")
    return aligned([header, *rows])


def task_details(task: Task) -> list[str]:
    """Return everything about a task: origin, space, meta-features, best configurations."""
    space = [(name, _range(d)) for name, d in task.space.distributions.items()]
    lines = [
        f"task      {task.name}",
        f"source    {task.source or '-'}",
        f"created   {_time(task.created)}",
        f"trials    {len(task.trials)}, {len(task.observed)} with a value{_infeasible(task)}",
        "",
        "search space",
        *indented(space),
        "",
        "meta-features",
        *indented([(name, _number(value)) for name, value in task.metafeatures.items()]),
        "",
        "best configurations (larger values are better)",
        *indented([_shown(trial) for trial in task.ranked[:BEST]]),
    ]
    return [printable(line) for line in lines]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return one line per row, with columns padded to equal widths."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def indented(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned rows, indented by two spaces; a dash if there are none."""
    return [f"  {line}" for line in aligned(rows)] or ["  -"]


def configuration_text(configuration: Configuration) -> str:
    """Return a configuration as ``name=value, ...``."""
    return ", ".join(f"{name}={_value(value)}" for name, value in configuration.items())


def _infeasible(task: Task) -> str:
    count = sum(not trial.feasible for trial in task.observed)
    return f", {count} of them infeasible" if count else ""


def _shown(trial: Trial) -> tuple[str, str]:
    text = configuration_text(trial.configuration)
    violated = "" if trial.feasible else f" (infeasible, by {_number(trial.violation)})"
    return _number(trial.value), f"{text}{violated}"


def _range(distribution: BaseDistribution) -> str:
    match distribution:
        case FloatDistribution() | IntDistribution():
            kind = "integer" if isinstance(distribution, IntDistribution) else "float"
            scale = ", log scale" if distribution.log else ""
            stepped = distribution.step not in (None, 1)
            step = f", step {_value(distribution.step)}" if stepped else ""
            low, high = _value(distribution.low), _value(distribution.high)
            return f"{kind} from {low} to {high}{scale}{step}"
        case CategoricalDistribution():
            return f"one of {', '.join(map(_value, distribution.choices))}"
    return repr(distribution)


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:z.6g}"


def _time(seconds: float | None) -> str:
    return time_text(seconds, "%Y-%m-%d %H:%M") or "-"
