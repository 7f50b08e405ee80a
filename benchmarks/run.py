"""Run methods on problems and write one JSON line for each run; resumes where it stopped.

python -m benchmarks.run --families lcbench rpart --methods tpe gp meta --out runs.jsonl
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from tqdm import tqdm

from benchmarks.histories import KINDS, history
from benchmarks.peers import (
    ABLATIONS,
    METHODS,
    NotInstalledError,
    is_historyless,
    method_named,
    run,
)
from benchmarks.problems import (
    DATA,
    FAMILIES,
    SPLITS,
    YAHPO,
    DataMissingError,
    load_problem,
    split,
)
from benchmarks.processes import (
    cpu_seconds,
    forget_peak_memory,
    limit_threads,
    peak_megabytes,
)
from benchmarks.records import Job, append_records, circumstances, job_of, read_records
from metahpo.surrogate.networks.network_file import WeightsError

# Compared by default: all but the ablations.
DEFAULT_METHODS = tuple(name for name in METHODS if name not in ABLATIONS)
QUICK: dict[str, Any] = {
    "families": ["lcbench", "rpart"],
    "methods": ["random", "tpe", "gp", "tpe+portfolio", "meta"],
    "history": ["small"],
    "tasks": 1,
    "seeds": 1,
    "trials": 15,
}


# ---- what is to be run ---------------------------------------------------------------------


def plan(arguments: argparse.Namespace) -> list[Job]:
    """All jobs, in an order that makes the results of a part of them useful.

    First all families, tasks and methods with seed 0, then with seed 1, and so on; families
    take turns, and all methods run on a task before the next task. A method that does not apply
    to a family is left out there.
    """
    chosen = {
        family: evenly_spread(getattr(split(family, arguments.data), arguments.split), arguments)
        for family in arguments.families
    }
    methods = {family: _applicable(family, arguments) for family in chosen}
    jobs = [
        Job(family, task, method, kind, seed, arguments.trials, arguments.split)
        for seed in range(arguments.seeds)
        for position in range(max(len(tasks) for tasks in chosen.values()))
        for family, tasks in chosen.items()
        for task in tasks[position : position + 1]
        for method in methods[family]
        for kind in (["none"] if is_historyless(method) else arguments.history)
    ]
    return list(dict.fromkeys(jobs))


def _applicable(family: str, arguments: argparse.Namespace) -> list[str]:
    task = split(family, arguments.data).validation[0]
    problem = load_problem(family, task, arguments.data)
    return [method for method in arguments.methods if method_named(method).applies(problem)]


def evenly_spread(tasks: tuple[str, ...], arguments: argparse.Namespace) -> list[str]:
    """So many tasks, evenly spread over their sorted order."""
    count = min(arguments.tasks or len(tasks), len(tasks))
    return [tasks[i] for i in np.linspace(0, len(tasks) - 1, count).round().astype(int)]


# ---- one run -------------------------------------------------------------------------------


def execute(job: Job, data: Path) -> dict[str, Any]:
    """Run a job; the record to be written."""
    problem = load_problem(job.family, job.task, data)
    past = history(job.history, job.family, job.task, data)
    forget_peak_memory()
    begin = cpu_seconds()
    result = run(job.method, problem, past, job.seed, job.trials)
    spent, peak = cpu_seconds() - begin, peak_megabytes()
    best_so_far = np.maximum.accumulate(result.values)
    return asdict(job) | {
        "values": result.values,
        "regrets": problem.bounds.regret(best_so_far).round(6).tolist(),
        "bounds": asdict(problem.bounds),
        "past_tasks": len(past),
        "milliseconds": [round(ms, 2) for ms in result.milliseconds],
        "setup_milliseconds": round(result.setup_milliseconds, 1),
        # Includes evaluations; other work on the machine does not affect it.
        "cpu_seconds": round(spent, 2),
        # Includes what the worker process had loaded before; see `benchmarks.timing methods`.
        "peak_megabytes": None if peak is None else round(peak),
        **circumstances(),
    }


# ---- processes -----------------------------------------------------------------------------


def start_worker() -> None:
    """Silence warnings and use one thread."""
    import torch

    torch.set_num_threads(1)
    # GPSampler would warn at every trial of a conditional space.
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _results(futures: dict[Future[dict[str, Any]], Job]) -> Iterator[dict[str, Any]]:
    """Records as they come; a job that fails is reported and tried again next time."""
    for future in tqdm(as_completed(futures), total=len(futures), unit="run", smoothing=0.05):
        job = futures[future]
        try:
            yield future.result()
        except Exception as error:
            tqdm.write(f"failed: {job}: {error!r}", file=sys.stderr)


def execute_all(jobs: list[Job], arguments: argparse.Namespace) -> int:
    """Run the jobs and append their records to the file; return how many failed."""
    limit_threads()
    context = multiprocessing.get_context("spawn")
    written = 0
    with ProcessPoolExecutor(arguments.jobs, context, start_worker) as pool:
        futures = {pool.submit(execute, job, arguments.data): job for job in jobs}

        def counted() -> Iterator[dict[str, Any]]:
            nonlocal written
            for record in _results(futures):
                yield record
                written += 1

        try:
            append_records(arguments.out, counted())
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return len(jobs) - written


# ---- command line --------------------------------------------------------------------------


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description="Run methods on problems; one JSON line a run; resumes where it stopped.",
    )
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(YAHPO))
    parser.add_argument(
        "--methods",
        nargs="+",
        type=_method,
        metavar="METHOD",
        help=f"{', '.join(METHODS)}; meta@FILE and meta-none@FILE use the weights of a file; "
        "by default all installed ones",
    )
    parser.add_argument("--ablations", action="store_true", help="MetaSampler without its parts")
    parser.add_argument("--history", nargs="+", choices=KINDS, default=["good"])
    parser.add_argument("--split", choices=SPLITS, default="history")
    parser.add_argument("--tasks", type=_positive, help="so many tasks a family, evenly spread")
    parser.add_argument("--seeds", type=_positive, default=3)
    parser.add_argument("--trials", type=_positive, default=50)
    parser.add_argument("--jobs", type=_positive, default=1, help="processes")
    parser.add_argument("--data", type=Path, default=DATA, help="the benchmark data's folder")
    parser.add_argument("--quick", action="store_true", help="a small run, in minutes")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, appended to")
    parsed = parser.parse_args(arguments)
    if parsed.quick:
        # Explicit options override those of --quick.
        parser.set_defaults(**QUICK)
        parsed = parser.parse_args(arguments)
    parsed.methods = parsed.methods or [name for name in DEFAULT_METHODS if _installed(name)]
    if parsed.ablations:
        parsed.methods = list(dict.fromkeys(["meta", *parsed.methods, *ABLATIONS]))
    return parsed


def _installed(method: str) -> bool:
    try:
        method_named(method).available()
    except NotInstalledError as error:
        print(f"without {method}: {error}", file=sys.stderr)
        return False
    return True


def _method(text: str) -> str:
    try:
        method_named(text)
    except KeyError:
        raise argparse.ArgumentTypeError(f"no method is called {text!r}") from None
    return text


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def main(argv: list[str] | None = None) -> int:
    """Run the jobs that are not in the file yet."""
    arguments = parse(argv)
    try:
        for method in arguments.methods:
            method_named(method).available()
        jobs = plan(arguments)
    except (NotInstalledError, DataMissingError, WeightsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    done = {job_of(record) for record in read_records(arguments.out)}
    try:
        failed = execute_all([job for job in jobs if job not in done], arguments)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
