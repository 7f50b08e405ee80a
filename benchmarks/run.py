"""Run methods on problems and write one JSON line for each run; resumes where it stopped.

python -m benchmarks.run --families lcbench rpart --methods tpe gp meta --out runs.jsonl
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from tqdm import tqdm

from benchmarks.histories import KINDS, history
from benchmarks.peers import HISTORYLESS, METHODS, run
from benchmarks.problems import DATA, FAMILIES, load_problem, split

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PACKAGES = ("metahpo", "optuna", "numpy", "scipy", "scikit-learn", "torch", "onnxruntime")


@dataclass(frozen=True)
class Job:
    """One study to be run; what identifies a line of the results."""

    family: str
    task: str
    method: str
    history: str
    seed: int
    trials: int
    split: str


def plan(arguments: argparse.Namespace) -> list[Job]:
    """All jobs, in an order that makes the results of a part of them useful.

    First all families, tasks and methods with seed 0, then with seed 1, and so on; families
    take turns, and all methods run on a task before the next task.
    """
    chosen = {
        family: evenly_spread(getattr(split(family, arguments.data), arguments.split), arguments)
        for family in arguments.families
    }
    jobs = [
        Job(family, task, method, kind, seed, arguments.trials, arguments.split)
        for seed in range(arguments.seeds)
        for position in range(max(len(tasks) for tasks in chosen.values()))
        for family, tasks in chosen.items()
        for task in tasks[position : position + 1]
        for method in arguments.methods
        for kind in (["none"] if method in HISTORYLESS else arguments.history)
    ]
    return list(dict.fromkeys(jobs))


def evenly_spread(tasks: tuple[str, ...], arguments: argparse.Namespace) -> list[str]:
    """So many tasks, evenly spread over their sorted order."""
    count = min(arguments.tasks or len(tasks), len(tasks))
    return [tasks[i] for i in np.linspace(0, len(tasks) - 1, count).round().astype(int)]


def execute(job: Job, data: Path) -> dict[str, Any]:
    """Run a job; the record to be written."""
    problem = load_problem(job.family, job.task, data)
    result = run(
        job.method,
        problem,
        history(job.history, job.family, job.task, data),
        job.seed,
        job.trials,
    )
    best_so_far = np.maximum.accumulate(result.values)
    return asdict(job) | {
        "values": result.values,
        "regrets": problem.bounds.regret(best_so_far).round(6).tolist(),
        "milliseconds": [round(ms, 2) for ms in result.milliseconds],
        "setup_milliseconds": round(result.setup_milliseconds, 1),
        **_circumstances(),
    }


@cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


@cache
def _revision() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    found = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def _circumstances() -> dict[str, Any]:
    return {
        "versions": _versions(),
        "revision": _revision(),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


# ---- results on disk -----------------------------------------------------------------------


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file; a line cut short by a kill is passed over."""
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def job_of(record: dict[str, Any]) -> Job:
    """The job that a record came from."""
    return Job(**{name: record[name] for name in Job.__dataclass_fields__})


def _write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A line cut short must not swallow the next one.
    cut_short = path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        if cut_short:
            file.write("\n")
        for record in records:
            file.write(json.dumps(record) + "\n")
            file.flush()


# ---- processes -----------------------------------------------------------------------------


def _start_worker() -> None:
    import torch

    torch.set_num_threads(1)
    # GPSampler would warn at every trial of a conditional space.
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _results(futures: dict[Future[dict[str, Any]], Job]) -> Iterator[dict[str, Any]]:
    """Records as they come; a job that fails is reported and tried again next time."""
    for future in tqdm(as_completed(futures), total=len(futures), unit="run"):
        job = futures[future]
        try:
            yield future.result()
        except Exception as error:
            tqdm.write(f"failed: {job}: {error!r}", file=sys.stderr)


def execute_all(jobs: list[Job], arguments: argparse.Namespace) -> int:
    """Run the jobs and append their records to the file; how many failed."""
    # One thread a process. Spawned, workers read this before they load numerical libraries.
    os.environ.update(dict.fromkeys(THREADS, "1"))
    context = multiprocessing.get_context("spawn")
    written = 0
    with ProcessPoolExecutor(arguments.jobs, context, _start_worker) as pool:
        futures = {pool.submit(execute, job, arguments.data): job for job in jobs}

        def counted() -> Iterator[dict[str, Any]]:
            nonlocal written
            for record in _results(futures):
                yield record
                written += 1

        _write(arguments.out, counted())
    return len(jobs) - written


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--history", nargs="+", choices=KINDS, default=["good"])
    parser.add_argument("--split", choices=("history", "validation"), default="history")
    parser.add_argument("--tasks", type=int, help="so many tasks a family, evenly spread")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--data", type=Path, default=DATA, help="the benchmark data's folder")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, appended to")
    return parser.parse_args(arguments)


def main(argv: list[str] | None = None) -> int:
    """Run what is not in the file yet."""
    arguments = parse(argv)
    done = {job_of(record) for record in read_records(arguments.out)}
    jobs = [job for job in plan(arguments) if job not in done]
    return 1 if execute_all(jobs, arguments) else 0


if __name__ == "__main__":
    sys.exit(main())
