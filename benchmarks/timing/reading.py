"""How long past studies take to read, from an archive and from an Optuna database.

Each has 100 trials of 7 hyperparameters. Reading happens in a fresh process, whose peak memory is
printed too. What writes the sources is not imported there, and this module imports nothing that
the readers do not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.processes import in_fresh_process, peak_megabytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)


def run(options: argparse.Namespace) -> int:
    """Measure and print a line for each reading."""
    from benchmarks.timing.histories import write_archive, write_database

    with tempfile.TemporaryDirectory() as folder:
        archive, database = f"{folder}/archive", f"sqlite:///{folder}/studies.db"
        write_archive(Path(archive), options.studies)
        write_database(database, options.studies)
        for kind, read, source in (
            ("archive", read_archive, archive),
            ("database", read_database, database),
        ):
            for _ in range(options.repeats):
                count, seconds, peak = in_fresh_process(read, source)
                print(
                    f"{kind}: {count} tasks, {seconds:.2f} s, "
                    f"peak memory {peak or float('nan'):.0f} MB"
                )
    return 0


def read_archive(path: str) -> tuple[int, float, float | None]:
    """Number of tasks, seconds, peak megabytes."""
    from metahpo.archive import Archive

    return _timed(lambda: Archive(path).tasks())


def read_database(url: str) -> tuple[int, float, float | None]:
    """Number of tasks, seconds, peak megabytes."""
    from optuna_meta.storage import read_tasks

    return _timed(lambda: read_tasks(url))


def _timed(read: Callable[[], Any]) -> tuple[int, float, float | None]:
    begin = time.perf_counter()
    tasks = read()
    return len(tasks), time.perf_counter() - begin, peak_megabytes()
