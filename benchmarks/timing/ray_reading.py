"""How long a Ray Tune experiment takes to read.

All in one process, after a first reading that is printed apart (imports, cold files). Beside it:
what opening and parsing the same files takes alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.timing.histories import write_experiment
from raytune_meta import read_experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--reports", type=int, default=20, help="reports of each trial")
    parser.add_argument("--repeats", type=int, default=20)


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "experiment"
        write_experiment(path, options.trials, options.reports)
        ((first, _),) = milliseconds(lambda: read_experiment(path, "accuracy", "max"), 1)
        print(f"first reading {first:.1f} ms")
        actions = {
            "reading": lambda: read_experiment(path, "accuracy", "max"),
            "parsing alone": lambda: parse_files(path),
        }
        for name, action in actions.items():
            times = milliseconds(action, options.repeats)
            (wall, processor), least = np.median(times, axis=0), times[:, 0].min()
            print(
                f"{name}: median {wall:.1f} ms, least {least:.1f} ms; "
                f"processor time {processor:.1f} ms"
            )
    return 0


def parse_files(path: Path) -> None:
    """Open and parse the files of an experiment, and do nothing with them."""
    for file in path.glob("*/params.json"):
        json.loads(file.read_bytes())
    for file in path.glob("*/result.json"):
        for line in file.read_bytes().splitlines():
            json.loads(line)


def milliseconds(action: Callable[[], object], repeats: int) -> np.ndarray:
    """Wall-clock and processor time of each repetition, ``repeats x 2``."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter(), time.process_time()
        action()
        times.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    return 1000 * np.array(times)
