"""The command line: ``collect``, ``show``, ``recommend``, ``train``. Parses and prints, no more.

What can be collected is the business of ``metahpo.archive.sources``.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from tqdm import tqdm

from metahpo.archive import Archive, ArchiveError, Outcome, ReadOptions, SourceError
from metahpo.archive.sources import read_history
from metahpo.cli.tables import TableError, read_table
from metahpo.cli.train import add_train
from metahpo.tasks.space import Configuration
from metahpo.tasks.task import Task, Trial
from metahpo.train import TrainingError

# How many configurations, and how many characters of a list of names, are shown.
BEST = 5
LONGEST_LIST = 60

# Exit codes. argparse has 2 for a command that cannot be parsed.
DONE, FAILED, INTERRUPTED = 0, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: Without the program's name; None for those of the process.

    Returns:
        The exit code: 0, 1 for what cannot be read or written, 130 when interrupted. A command
        that cannot be parsed exits with 2.
    """
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _print_warning
        try:
            told = options.run(options)
            if told:
                print(told)
            sys.stdout.flush()
        except (ArchiveError, SourceError, TableError, TrainingError, OSError) as error:
            return _ended_early(error)
        except KeyboardInterrupt:
            return INTERRUPTED
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metahpo", description="Archives of past tuning tasks to learn from."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    collect = commands.add_parser(
        "collect",
        help="put past studies into an archive",
        description="Puts past studies into an archive. What is there already is left as it is, "
        "and studies that have grown replace their former selves.",
    )
    collect.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="an Optuna storage URL or file, a Ray Tune experiment folder or a folder of "
        "several, or another archive",
    )
    collect.add_argument(
        "--to", required=True, metavar="ARCHIVE", help="a folder, or a URL that fsspec knows"
    )
    collect.add_argument("--metric", help="what Ray Tune tuned, as in 'eval/accuracy'")
    collect.add_argument("--mode", choices=("max", "min"), help="what Ray Tune did with it")
    collect.set_defaults(run=_collect)

    show = commands.add_parser("show", help="list an archive's tasks, or describe one")
    show.add_argument("archive", metavar="ARCHIVE", help="a folder, or a URL that fsspec knows")
    show.add_argument("--task", metavar="NAME", help="describe this task")
    show.set_defaults(run=_show)
    _add_recommend(commands)
    add_train(commands)
    return parser


def _ended_early(error: Exception) -> int:
    if isinstance(error, BrokenPipeError):
        # Whoever reads the output (head, less) has had enough; nor can the rest be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    _print_error(f"error: {error}")
    return FAILED


def _print_error(message: str) -> None:
    print("metahpo:", " ".join(message.split()), file=sys.stderr)


def _print_warning(message: Warning | str, *_: Any) -> None:
    tqdm.write(f"metahpo: warning: {' '.join(str(message).split())}", file=sys.stderr)


# ---- collect -------------------------------------------------------------------------------


def _collect(options: argparse.Namespace) -> None:
    archive = Archive(options.to)
    outcomes: Counter[Outcome] = Counter()
    reading = ReadOptions(options.metric, options.mode)
    for source in options.sources:
        tasks = read_history(source, reading)
        outcomes += archive.extend(_with_progress(tasks, source))
    told = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in Outcome)
    print(f"{outcomes.total()} tasks to {archive.path}: {told}")


def _with_progress(tasks: Sequence[Task], source: str) -> Iterable[Task]:
    # disable=None: no bar where standard error is no terminal.
    return tqdm(tasks, desc=source, unit="task", disable=None)


# ---- recommend -----------------------------------------------------------------------------

# As in ``metahpo.recommendation.recommend``, which brings torch and takes seconds to import.
METHODS = ("kglasso", "knn", "vote", "cosine", "kernel", "metric", "portfolio")


def _add_recommend(commands: Any) -> None:
    recommend = commands.add_parser(
        "recommend",
        help="configurations for a data set, from past tasks like it",
        description="Describes a data set, finds the past tasks that are like it, and recommends "
        "configurations before any trial.",
    )
    recommend.add_argument("data", metavar="DATA", help="training data, a CSV or Parquet file")
    recommend.add_argument("--target", required=True, metavar="COLUMN", help="what is predicted")
    recommend.add_argument(
        "--archive", required=True, help="past tasks: a folder, or a URL that fsspec knows"
    )
    recommend.add_argument("-k", type=_positive, default=5, help="how many (default: 5)")
    recommend.add_argument("--method", choices=METHODS, default=METHODS[0])
    recommend.set_defaults(run=_recommend)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _recommend(options: argparse.Namespace) -> None:
    inputs, target = read_table(options.data, options.target)
    tasks = Archive(options.archive).tasks()
    if not any(task.observed for task in tasks):
        raise ArchiveError(f"no task with observed trials in {options.archive}")
    from metahpo.metafeatures import extract
    from metahpo.recommendation.recommend import recommend

    found = recommend(extract(inputs, target), tasks, options.k, options.method)
    rows = [
        (f"{number}", f"{item.score:.3f}", _configuration(item.configuration))
        for number, item in enumerate(found, start=1)
    ]
    past = [(f"{weight:z.3f}", name) for name, weight in found.past_tasks[:BEST]]
    decided = [(f"{share:.3f}", name) for name, share in found.metafeatures[:BEST]]
    lines = [
        *_aligned([("", "score", "configuration"), *rows]),
        "",
        "past tasks that count most, and their weights",
        *_indented(past),
        "",
        "meta-features that decided, and their shares",
        *_indented(decided),
    ]
    for line in lines:
        print(line)


# ---- show ----------------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> None:
    archive = Archive(options.archive)
    lines = (
        _table(archive.tasks()) if options.task is None else _details(archive.task(options.task))
    )
    for line in lines:
        print(line)


def _table(tasks: Sequence[Task]) -> list[str]:
    """One line a task."""
    rows = [
        (
            task.name,
            str(len(task.trials)),
            _number(max((value for value, _ in _valued(task)), default=None)),
            textwrap.shorten(", ".join(task.space) or "-", LONGEST_LIST, placeholder=" ..."),
            str(len(task.metafeatures)),
            _moment(task.created),
        )
        for task in tasks
    ]
    header = ("task", "trials", "best", "hyperparameters", "meta-features", "created")
    return _aligned([header, *rows])


def _details(task: Task) -> list[str]:
    best = sorted(_valued(task), key=lambda valued: -valued[0])[:BEST]
    space = [(name, _range(d)) for name, d in task.space.distributions.items()]
    return [
        f"task      {task.name}",
        f"source    {task.source or '-'}",
        f"created   {_moment(task.created)}",
        f"trials    {len(task.trials)}, {len(task.observed)} with a value",
        "",
        "space",
        *_indented(space),
        "",
        "meta-features",
        *_indented([(name, _number(value)) for name, value in task.metafeatures.items()]),
        "",
        "best configurations (larger values are better)",
        *_indented([(_number(v), _configuration(trial.configuration)) for v, trial in best]),
    ]


def _valued(task: Task) -> list[tuple[float, Trial]]:
    return [(trial.value, trial) for trial in task.observed if trial.value is not None]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _indented(rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"  {line}" for line in _aligned(rows)] or ["  -"]


def _range(distribution: BaseDistribution) -> str:
    match distribution:
        case FloatDistribution() | IntDistribution():
            kind = "whole number" if isinstance(distribution, IntDistribution) else "number"
            scale = ", log scale" if distribution.log else ""
            stepped = distribution.step not in (None, 1)
            step = f", step {_value(distribution.step)}" if stepped else ""
            return f"{kind} {_value(distribution.low)} to {_value(distribution.high)}{scale}{step}"
        case CategoricalDistribution():
            return f"one of {', '.join(map(_value, distribution.choices))}"
    return repr(distribution)


def _configuration(configuration: Configuration) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in configuration.items())


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:z.6g}"


def _moment(seconds: float | None) -> str:
    return "-" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"
