"""The commands ``collect``, ``show`` and ``recommend``, and the entry point of the program."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tqdm import tqdm

from metahpo.archive import Archive, ArchiveError, Outcome, ReadOptions, SourceError
from metahpo.archive.display_names import with_unique_names
from metahpo.archive.shown import message_of
from metahpo.archive.sources import read_history
from metahpo.cli.tables import TableError, read_table
from metahpo.cli.task_text import (
    aligned,
    configuration_text,
    indented,
    task_details,
    task_table,
)
from metahpo.cli.train import add_train
from metahpo.tasks.task import Task
from metahpo.train import TrainingError

# Past tasks and meta-features listed with recommendations.
LISTED = 5

# Exit codes; argparse exits with 2 for a command that cannot be parsed.
DONE, FAILED, INTERRUPTED = 0, 1, 130

ARCHIVE_HELP = "folder of the archive, or a URL that fsspec supports"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Without the name of the program; None takes those of the process.

    Returns:
        The exit code: 0 if done, 1 if something cannot be read or written, 130 if interrupted.

    Raises:
        SystemExit: With code 2, if the command cannot be parsed.
    """
    options = _parser().parse_args(arguments)
    _show_any_character()
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _print_warning
        try:
            output = options.run(options)
            if output:
                print(output)
            sys.stdout.flush()
        except (ArchiveError, SourceError, TableError, TrainingError, OSError) as error:
            return _exit_code(error)
        except KeyboardInterrupt:
            return INTERRUPTED
    return DONE


def _show_any_character() -> None:
    # A name may hold what the terminal's encoding lacks. Tests and hosts replace the streams.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metahpo", description="Archives of past tuning tasks, and recommendations from them."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_collect(commands)
    _add_show(commands)
    _add_recommend(commands)
    add_train(commands)
    return parser


def _exit_code(error: Exception) -> int:
    """Print an error and return the exit code; a closed pipe is no error."""
    if isinstance(error, BrokenPipeError):
        # The reader (head, less) has left. Python would fail again on flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    print("metahpo:", message_of(" ".join(f"error: {error}".split())), file=sys.stderr)
    return FAILED


def _print_warning(message: Warning | str, *_: Any) -> None:
    text = message_of(" ".join(str(message).split()))
    tqdm.write(f"metahpo: warning: {text}", file=sys.stderr)


# ---- collect -------------------------------------------------------------------------------


def _add_collect(commands: Any) -> None:
    collect = commands.add_parser(
        "collect",
        help="add past studies to an archive",
        description="Adds past studies to an archive. Tasks that it already contains are left "
        "unchanged; studies that have grown since replace their earlier version.",
    )
    collect.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="Optuna storage URL or file, Ray Tune experiment folder or a folder of several, "
        "or another archive",
    )
    collect.add_argument("--to", required=True, metavar="ARCHIVE", help=ARCHIVE_HELP)
    collect.add_argument("--metric", help="metric that Ray Tune optimised, as 'eval/accuracy'")
    collect.add_argument("--mode", choices=("max", "min"), help="direction of that metric")
    collect.add_argument(
        "--constraint",
        action="append",
        default=[],
        metavar="NAME",
        help="result of Ray Tune that is at most 0 where a constraint holds; may be repeated",
    )
    collect.set_defaults(run=_collect)


def _collect(options: argparse.Namespace) -> None:
    archive = Archive(options.to)
    outcomes: Counter[Outcome] = Counter()
    constraints = tuple(options.constraint)
    reading = ReadOptions(options.metric, options.mode, constraints, user_attributes=True)
    for source in options.sources:
        tasks = read_history(source, reading)
        outcomes += archive.extend(_with_progress(tasks, source))
    counts = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in Outcome)
    print(f"{outcomes.total()} tasks to {message_of(archive.path, archive.path)}: {counts}")


def _with_progress(tasks: Sequence[Task], source: str) -> Iterable[Task]:
    # disable=None: no progress bar unless standard error is a terminal.
    return tqdm(tasks, desc=message_of(source, source), unit="task", disable=None)


# ---- show ----------------------------------------------------------------------------------


def _add_show(commands: Any) -> None:
    show = commands.add_parser("show", help="list the tasks of an archive, or describe one")
    show.add_argument("archive", metavar="ARCHIVE", help=ARCHIVE_HELP)
    show.add_argument("--task", metavar="NAME", help="describe this task")
    show.set_defaults(run=_show)


def _show(options: argparse.Namespace) -> None:
    archive = Archive(options.archive)
    if options.task is None:
        lines = task_table(with_unique_names(archive.tasks()))
    else:
        lines = task_details(archive.task(options.task))
    for line in lines:
        print(line)


# ---- recommend -----------------------------------------------------------------------------

# The keys of ``metahpo.recommendation.recommend.METHODS``, whose import takes seconds.
METHODS = ("kglasso", "knn", "vote", "cosine", "kernel", "metric", "portfolio")


def _add_recommend(commands: Any) -> None:
    recommend = commands.add_parser(
        "recommend",
        help="recommend configurations for a data set, from similar past tasks",
        description="Computes the meta-features of a data set, finds similar past tasks, and "
        "recommends configurations before any trial.",
    )
    recommend.add_argument("data", metavar="DATA", help="training data, a CSV or Parquet file")
    recommend.add_argument("--target", required=True, metavar="COLUMN", help="column to predict")
    recommend.add_argument("--archive", required=True, help=ARCHIVE_HELP)
    recommend.add_argument(
        "-k", type=_positive, default=5, help="number of configurations (default: 5)"
    )
    recommend.add_argument(
        "--method", choices=METHODS, default=METHODS[0], help=f"default: {METHODS[0]}"
    )
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
        message = f"no task with observed trials in {options.archive}"
        raise ArchiveError(message, options.archive)
    from metahpo.metafeatures import extract
    from metahpo.recommendation.recommend import recommend

    found = recommend(extract(inputs, target), tasks, options.k, options.method)
    rows = [
        (f"{number}", f"{item.score:.3f}", configuration_text(item.configuration))
        for number, item in enumerate(found, start=1)
    ]
    past_tasks = [(f"{weight:z.3f}", name) for name, weight in found.past_tasks[:LISTED]]
    metafeatures = [(f"{share:.3f}", name) for name, share in found.metafeatures[:LISTED]]
    lines = [
        *aligned([("", "score", "configuration"), *rows]),
        "",
        "past tasks with the largest weights",
        *indented(past_tasks),
        "",
        "meta-features that decided, with their shares",
        *indented(metafeatures),
    ]
    for line in lines:
        print(line)
