"""Trials a second in Ray Tune: MetaSearch with past tasks beside random search.

Four trials of two seconds run at a time. The sweeps take turns; each pair's rates and their ratio
are printed, over the whole sweep and from the end of the first trials to that of the last one (a
sweep begins with importing PyTorch and with fitting the models of the past tasks, once).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from typing import Any

import numpy as np
import ray
from ray import tune

from benchmarks.ray_regret import param_space
from benchmarks.timing.histories import problem_archive
from benchmarks.timing.studies import FAMILY, add_data_argument, timed_problem
from raytune_meta import MetaSearch

PARALLEL = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--past", type=int, default=100, help="past tasks")
    parser.add_argument("--trials", type=int, default=40, help="trials a sweep")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of sweeps")
    add_data_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    archive = problem_archive(FAMILY, options.past, options.data)
    space = param_space(timed_problem(options.data))
    ray.init(
        "local",
        num_cpus=PARALLEL,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
    )
    rates(None, space, 2 * PARALLEL)  # starts the workers
    ratios: list[tuple[float, float]] = []
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
    return 0


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


def train(config: dict[str, Any]) -> None:
    """Two seconds of work that needs no processor."""
    time.sleep(2.0)
    tune.report({"value": -float(config["learning_rate"]), "ended": time.time()})
