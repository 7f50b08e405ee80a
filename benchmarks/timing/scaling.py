"""How MetaSampler scales with the number of past tasks.

Each number has a process of its own. The first suggestion includes reading the archive and fitting
the models of the past tasks; ask + tell is a median in a study that already has some trials. Peak
memory is the process's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from tqdm import tqdm

from benchmarks.processes import FailedProcessError, in_fresh_process, peak_megabytes
from benchmarks.records import append_records, circumstances
from benchmarks.timing.histories import problem_archive
from benchmarks.timing.studies import (
    FAMILY,
    add_data_argument,
    ask_and_tell,
    start_measuring,
    started_study,
    timed_problem,
)
from optuna_meta import MetaSampler


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--past", type=int, nargs="+", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--trials", type=int, default=50, help="trials the study has")
    parser.add_argument("--repeats", type=int, default=7, help="suggestions timed")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds a number may take")
    parser.add_argument("--out", type=Path, help="JSON lines, appended to")
    add_data_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Measure and print a line for each number."""
    failed = False
    for count in tqdm(options.past, unit="number", disable=None):
        archive = problem_archive(FAMILY, count, options.data)  # writing it is not measured
        arguments = archive, options.trials, options.repeats, options.data
        try:
            record = {
                "past": count,
                **in_fresh_process(measure, *arguments, seconds=options.limit),
            }
        except FailedProcessError as error:
            tqdm.write(f"{count} past tasks: {error}")
            failed = True
            continue
        tqdm.write(
            f"{count} past tasks: first suggestion {record['first_seconds']:.1f} s, "
            f"ask + tell {record['milliseconds']:.0f} ms, "
            f"peak memory {record['peak_megabytes'] or float('nan'):.0f} MB"
        )
        if options.out:
            append_records(options.out, [record])
    return int(failed)


def measure(archive: Path, trials: int, repeats: int, data: Path) -> dict[str, Any]:
    """The record of an archive; to be run in a process that has done nothing else."""
    start_measuring()
    problem = timed_problem(data)
    fresh = optuna.create_study(direction="maximize", sampler=MetaSampler(history=archive, seed=0))
    first = ask_and_tell(fresh, problem)
    study = started_study(problem, fresh.sampler, trials)
    ask_and_tell(study, problem)  # fits this study for the first time
    times = [ask_and_tell(study, problem) for _ in range(repeats)]
    return {
        "trials": trials,
        "first_seconds": round(first / 1000, 2),
        "milliseconds": round(float(np.median(times)), 1),
        "peak_megabytes": peak_megabytes(),
        **circumstances(),
    }
