"""How long a Ray Tune experiment takes to read: 100 trials of 20 reports each.

    python -m benchmarks.ray_reading --trials 100 --reports 20

The files are those that Ray 2.60 writes. Each reading is in one process, after a first one that
is printed apart (imports, cold files). Beside it: what opening and parsing the same files takes
alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from raytune_meta import read_experiment


def write_experiment(path: Path, trials: int, reports: int) -> None:
    """An experiment of random trials."""
    rng = np.random.default_rng(0)
    for number in range(trials):
        params = {f"x{i}": float(rng.random()) for i in range(7)}
        folder = path / f"train_0a1b2_{number:05d}_{number}_2025-03-01_12-00-00"
        folder.mkdir(parents=True)
        (folder / "params.json").write_text(json.dumps(params))
        lines = [
            {
                "accuracy": float(rng.random()),
                "timestamp": 1_700_000_000 + 100 * number + iteration,
                "checkpoint_dir_name": None,
                "done": iteration == reports,
                "training_iteration": iteration,
                "trial_id": f"0a1b2_{number:05d}",
                "date": f"2025-03-01_12-00-{iteration % 60:02d}",
                "time_this_iter_s": 1.0,
                "time_total_s": float(iteration),
                "pid": 1234,
                "hostname": "host",
                "node_ip": "127.0.0.1",
                "config": params,
                "time_since_restore": float(iteration),
                "iterations_since_restore": iteration,
                "experiment_tag": str(number),
            }
            for iteration in range(1, reports + 1)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "result.json").write_text(text)


def parse(path: Path) -> None:
    """Opens and parses the files, and does nothing with them."""
    for file in path.glob("*/params.json"):
        json.loads(file.read_bytes())
    for file in path.glob("*/result.json"):
        for line in file.read_bytes().splitlines():
            json.loads(line)


def milliseconds(action: Callable[[], object], repeats: int) -> np.ndarray:
    """How long each of the repetitions takes, and the processor's time of it."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter(), time.process_time()
        action()
        times.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    return 1000 * np.array(times)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--reports", type=int, default=20, help="of each trial")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "experiment"
        write_experiment(path, options.trials, options.reports)
        ((first, _),) = milliseconds(lambda: read_experiment(path, "accuracy", "max"), 1)
        print(f"first reading {first:.1f} ms")
        actions = {
            "reading": lambda: read_experiment(path, "accuracy", "max"),
            "parsing alone": lambda: parse(path),
        }
        for name, action in actions.items():
            times = milliseconds(action, options.repeats)
            (wall, processor), least = np.median(times, axis=0), times[:, 0].min()
            print(f"{name}: median {wall:.1f} ms, least {least:.1f} ms; processor's time "
                  f"{processor:.1f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
