"""How MetaSampler scales with the number of past tasks.

    python -m benchmarks.scaling --past 10 100 1000 10000 --out out/scaling.jsonl

Each number has a process of its own, on one thread. The first suggestion includes reading the
archive and fitting the models of the past; ask + tell is a median in a study that already has some
trials. Peak memory is the process's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from tqdm import tqdm

from benchmarks import cache
from benchmarks.cost import in_process
from benchmarks.latency import FAMILY, ask_and_tell, started_study, write_history
from benchmarks.problems import DATA, load_problem, split
from benchmarks.records import append_records, circumstances, peak_megabytes
from benchmarks.run import start_worker
from optuna_meta import MetaSampler


def archive_of(count: int, data: Path) -> Path:
    """An archive of so many tasks, written once."""
    path = cache.CACHE / "archives" / f"{FAMILY}-{count}"
    if not path.exists():
        unfinished = path.with_name(f".{path.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        write_history(unfinished, count, data)
        unfinished.rename(path)
    return path


def measure(count: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The record of a number of past tasks; run in a process that has done nothing else."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    problem = load_problem(FAMILY, split(FAMILY, arguments.data).validation[0], arguments.data)
    archive = archive_of(count, arguments.data)
    fresh = optuna.create_study(direction="maximize", sampler=MetaSampler(history=archive, seed=0))
    first = ask_and_tell(fresh, problem)
    study = started_study(problem, fresh.sampler, arguments.trials)
    ask_and_tell(study, problem)  # fits the present study for the first time
    times = [ask_and_tell(study, problem) for _ in range(arguments.repeats)]
    return {
        "past": count,
        "trials": arguments.trials,
        "first_seconds": round(first / 1000, 2),
        "milliseconds": round(float(np.median(times)), 1),
        "peak_megabytes": peak_megabytes(),
        **circumstances(),
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description="Time and memory by past tasks."
    )
    parser.add_argument("--past", type=int, nargs="+", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--trials", type=int, default=50, help="trials the study has")
    parser.add_argument("--repeats", type=int, default=7, help="suggestions timed")
    parser.add_argument("--data", type=Path, default=DATA, help="the benchmark data's folder")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds a number may take")
    parser.add_argument("--out", type=Path, help="JSON lines, appended to")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print a line for each number."""
    arguments = parse(argv)
    if arguments.one:
        start_worker()
        print(json.dumps(measure(arguments.one, arguments)))
        return 0
    same = ["--trials", str(arguments.trials), "--repeats", str(arguments.repeats)]
    for count in tqdm(arguments.past, unit="number", disable=None):
        archive_of(count, arguments.data)  # writing it is not what is measured
        one = ["--one", str(count), *same, "--data", str(arguments.data)]
        record = in_process("benchmarks.scaling", one, arguments.limit)
        if record is None:
            tqdm.write(f"{count} past tasks: more than {arguments.limit:.0f} s")
            continue
        tqdm.write(
            f"{count} past tasks: first suggestion {record['first_seconds']:.1f} s, "
            f"ask + tell {record['milliseconds']:.0f} ms, "
            f"peak memory {record['peak_megabytes'] or float('nan'):.0f} MB"
        )
        if arguments.out:
            append_records(arguments.out, [record])
    return 0


if __name__ == "__main__":
    sys.exit(main())
