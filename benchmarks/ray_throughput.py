"""Trials a second in Ray Tune: MetaSearch with past tasks beside random search, in one run.

    python -m benchmarks.ray_throughput --past 100 --trials 40

Four trials of two seconds run at a time. The sweeps take turns; each pair's rates and their ratio
are printed, over the whole sweep and from the end of the first trial to that of the last one (a
sweep begins with importing PyTorch and with fitting the models of the past, once).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune

from benchmarks.latency import FAMILY, write_history
from benchmarks.problems import DATA, load_problem, split
from benchmarks.ray_regret import param_space
from raytune_meta import MetaSearch

PARALLEL = 4


def train(config: dict[str, Any]) -> None:
    """Two seconds of work that needs no processor."""
    time.sleep(2.0)
    tune.report({"value": -float(config["learning_rate"]), "ended": time.time()})


def rates(search: Any, space: dict[str, Any], trials: int) -> tuple[float, float]:
    """Trials a second: over the whole sweep, and between the first and the last end."""
    begin = time.time()
    with tempfile.TemporaryDirectory() as folder:
        analysis = tune.run(
            train,
            search_alg=search,
            config=space,
            metric="value",
            mode="max",
            num_samples=trials,
            max_concurrent_trials=PARALLEL,
            reuse_actors=True,
            storage_path=folder,
            verbose=0,
        )
    ended = sorted(trial.last_result["ended"] for trial in analysis.trials)
    # The first batch ends together: what is counted begins with it.
    return trials / (ended[-1] - begin), (trials - PARALLEL) / (ended[-1] - ended[PARALLEL - 1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--past", type=int, default=100, help="past tasks")
    parser.add_argument("--trials", type=int, default=40, help="trials a sweep")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of sweeps")
    parser.add_argument("--data", type=Path, default=DATA, help="the benchmark data")
    options = parser.parse_args(arguments)
    ray.init(
        "local",
        num_cpus=PARALLEL,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
    )
    name = split(FAMILY, options.data).validation[0]
    space = param_space(load_problem(FAMILY, name, options.data))
    ratios: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "archive"
        write_history(archive, options.past, options.data)
        rates(None, space, 2 * PARALLEL)  # starts the workers
        for pair in range(options.pairs):
            ours = rates(MetaSearch(history=archive, seed=pair), space, options.trials)
            random = rates(None, space, options.trials)
            ratios.append((ours[0] / random[0], ours[1] / random[1]))
            print(
                f"pair {pair}: meta {ours[0]:.2f} and {ours[1]:.2f}, random {random[0]:.2f} and "
                f"{random[1]:.2f} trials/s, ratio {ratios[-1][0]:.2f} and {ratios[-1][1]:.2f}",
                flush=True,
            )
    whole, steady = np.median(ratios, axis=0)
    print(f"median ratio: whole sweep {whole:.2f}, after the first trials {steady:.2f}")


if __name__ == "__main__":
    main()
