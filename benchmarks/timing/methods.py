"""What each method costs: milliseconds of ask + tell in long studies, and peak memory.

Each method runs in a process of its own, on the first validation task of a family with its good
history. Random trials are added up to 10, 50, 100 and 200 trials; at each of these a few trials
more are asked for, and the median of their times is taken.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.histories import KINDS, history
from benchmarks.peers import ABLATIONS, METHODS, NotInstalledError, Peer, started, timed_trial
from benchmarks.problems import FAMILIES, DataMissingError, Problem, load_problem, split
from benchmarks.processes import FailedProcessError, in_fresh_process, peak_megabytes
from benchmarks.records import append_records, circumstances, read_records
from benchmarks.timing.studies import add_data_argument, start_measuring

POINTS = (10, 50, 100, 200)
TIMED = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    default = [name for name in METHODS if name not in ABLATIONS]
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=default)
    parser.add_argument("--family", choices=FAMILIES, default="lcbench")
    parser.add_argument("--history", choices=KINDS, default="good")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds a method may take")
    parser.add_argument("--out", type=Path, help="JSON lines, appended to")
    add_data_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Measure the methods that the file lacks, and print a table."""
    measured = {r["method"]: r for r in read_records(options.out)} if options.out else {}
    failed = False
    for method in tqdm([m for m in options.methods if m not in measured], unit="method"):
        arguments = method, options.family, options.history, options.data, POINTS
        try:
            METHODS[method].available()
            record = in_fresh_process(measure, *arguments, seconds=options.limit)
        except (NotInstalledError, DataMissingError, FailedProcessError) as error:
            tqdm.write(f"{method}: {error}", file=sys.stderr)
            failed = True
            continue
        measured[method] = record
        if options.out:
            append_records(options.out, [record])
    print(table([measured[method] for method in options.methods if method in measured]))
    return int(failed)


def measure(
    method: str, family: str, kind: str, data: Path, points: Sequence[int]
) -> dict[str, Any]:
    """The record of a method; to be run in a process that has done nothing else."""
    start_measuring()
    problem = load_problem(family, split(family, data).validation[0], data)
    past = history(kind, family, None, data)
    begin = time.perf_counter()
    peer = started(method, problem, past, 0, max(points) + TIMED * len(points))
    setup = time.perf_counter() - begin
    milliseconds = _milliseconds(peer, problem, points)
    record = {
        "method": method,
        "family": family,
        "history": kind,
        "setup_seconds": round(setup, 2),
        "first_milliseconds": round(milliseconds[0], 1),
        "milliseconds": {str(p): round(ms, 1) for p, ms in milliseconds.items() if p},
        "peak_megabytes": peak_megabytes(),
        **circumstances(),
    }
    peer.close()
    return record


def _milliseconds(peer: Peer, problem: Problem, points: Sequence[int]) -> dict[int, float]:
    """Time of the first trial, under 0, and medians once the study has so many trials."""
    rng = np.random.default_rng(0)
    found = {0: timed_trial(peer, problem)[1]}
    count = 1
    for point in points:
        for configuration in problem.sample(max(point - count, 0), rng):
            peer.tell(configuration, float(problem.evaluate([configuration])[0]))
        times = [timed_trial(peer, problem)[1] for _ in range(TIMED)]
        found[point] = float(np.median(times))
        count = max(point, count) + TIMED
    return found


def table(records: Sequence[dict[str, Any]]) -> str:
    """The records in Markdown."""
    points = records[0]["milliseconds"] if records else ()
    head = ["method", "set-up, s", "first trial, ms", *(f"at {p}, ms" for p in points), "peak MB"]
    rows = [
        [
            record["method"],
            f"{record['setup_seconds']:.1f}",
            f"{record['first_milliseconds']:.0f}",
            *(f"{record['milliseconds'][point]:.0f}" for point in points),
            f"{record['peak_megabytes']:.0f}" if record["peak_megabytes"] else "",
        ]
        for record in records
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
