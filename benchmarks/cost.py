"""What a method costs: milliseconds of ask + tell in long studies, and peak memory.

    python -m benchmarks.cost --methods tpe gp smac meta --out out/cost.jsonl

Each method runs in a process of its own, on one thread, on the first validation task of a family
with its good history. Random trials are told up to 10, 50, 100 and 200 trials; some trials more
are then asked and told, and the median of their times is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.histories import KINDS, history
from benchmarks.peers import ABLATIONS, METHODS, NotInstalledError, Peer, started, timed_trial
from benchmarks.problems import DATA, FAMILIES, DataMissingError, Problem, load_problem, split
from benchmarks.records import append_records, circumstances, peak_megabytes, read_records
from benchmarks.run import THREADS, start_worker

POINTS = (10, 50, 100, 200)
TIMED = 5


def measure(method: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The record of a method; run in a process that has done nothing else."""
    problem = load_problem(
        arguments.family, split(arguments.family, arguments.data).validation[0], arguments.data
    )
    past = history(arguments.history, arguments.family, None, arguments.data)
    begin = time.perf_counter()
    peer = started(method, problem, past, 0, max(POINTS) + TIMED * len(POINTS))
    setup = time.perf_counter() - begin
    milliseconds = _milliseconds(peer, problem)
    record = {
        "method": method,
        "family": arguments.family,
        "history": arguments.history,
        "setup_seconds": round(setup, 2),
        "first_milliseconds": round(milliseconds[0], 1),
        "milliseconds": {point: round(ms, 1) for point, ms in milliseconds.items() if point},
        "peak_megabytes": peak_megabytes(),
        **circumstances(),
    }
    peer.close()
    return record


def _milliseconds(peer: Peer, problem: Problem) -> dict[int, float]:
    """Of the first trial (0), and medians once the study has so many."""
    rng = np.random.default_rng(0)
    found = {0: timed_trial(peer, problem)[1]}
    told = 1
    for point in POINTS:
        for configuration in problem.sample(max(point - told, 0), rng):
            peer.tell(configuration, float(problem.evaluate([configuration])[0]))
        times = [timed_trial(peer, problem)[1] for _ in range(TIMED)]
        found[point] = float(np.median(times))
        told = max(point, told) + TIMED
    return found


# ---- processes -----------------------------------------------------------------------------


def in_process(module: str, more: Sequence[str], limit: float | None) -> dict[str, Any] | None:
    """The JSON object that a module prints last, run in a process of its own.

    Returns:
        None where it took longer than ``limit`` seconds.

    Raises:
        RuntimeError: Where it failed; the message is its last line.
    """
    environment = os.environ | dict.fromkeys(THREADS, "1")
    command = [sys.executable, "-m", module, *more]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    default = [name for name in METHODS if name not in ABLATIONS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost", description="Time and memory of each method."
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=default)
    parser.add_argument("--family", choices=FAMILIES, default="lcbench")
    parser.add_argument("--history", choices=KINDS, default="good")
    parser.add_argument("--data", type=Path, default=DATA, help="the benchmark data's folder")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds a method may take")
    parser.add_argument("--out", type=Path, help="JSON lines, appended to")
    parser.add_argument("--one", choices=METHODS, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(argv: list[str] | None = None) -> int:
    """Measure the methods that the file lacks, and print a table."""
    arguments = parse(argv)
    if arguments.one:
        start_worker()
        print(json.dumps(measure(arguments.one, arguments)))
        return 0
    known = {r["method"]: r for r in read_records(arguments.out)} if arguments.out else {}
    failed = False
    for method in tqdm([m for m in arguments.methods if m not in known], unit="method"):
        same = ["--one", method, "--family", arguments.family, "--history", arguments.history]
        try:
            METHODS[method].available()
            record = in_process(
                "benchmarks.cost", [*same, "--data", str(arguments.data)], arguments.limit
            )
        except (NotInstalledError, DataMissingError, RuntimeError) as error:
            tqdm.write(f"{method}: {error}", file=sys.stderr)
            failed = True
            continue
        if record is None:
            tqdm.write(f"{method}: more than {arguments.limit:.0f} s", file=sys.stderr)
            failed = True
            continue
        known[method] = record
        if arguments.out:
            append_records(arguments.out, [record])
    print(table([known[method] for method in arguments.methods if method in known]))
    return int(failed)


def table(records: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    head = ["method", "set-up, s", "first trial, ms", *(f"at {p}, ms" for p in POINTS), "peak MB"]
    rows = [
        [
            record["method"],
            f"{record['setup_seconds']:.1f}",
            f"{record['first_milliseconds']:.0f}",
            *(f"{record['milliseconds'][str(point)]:.0f}" for point in POINTS),
            f"{record['peak_megabytes']:.0f}" if record["peak_megabytes"] else "",
        ]
        for record in records
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    sys.exit(main())
