"""Seconds that meta-features take.

python -m benchmarks.metafeatures
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from metahpo.metafeatures import (
    dataset_metafeatures,
    dynamics_metafeatures,
    network_metafeatures,
)

REPEATS = 5


def main() -> None:
    """Print a table: the median and the longest of some repetitions."""
    rng = np.random.default_rng(0)
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    transformer = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
    curve = 0.3 + 2.0 * np.arange(1.0, 101.0) ** -0.7 + 0.01 * rng.normal(size=100)
    jobs: dict[str, Callable[[], object]] = {}
    for rows, columns in ((1_000, 20), (10_000, 50), (100_000, 100)):
        X = rng.normal(size=(rows, columns))
        y = (X[:, 0] + X[:, 1] ** 2 > 1.0).astype(int)
        jobs[f"data set, {rows:,} x {columns}"] = lambda X=X, y=y: dataset_metafeatures(X, y)
    jobs["network, 6 transformer layers"] = lambda: network_metafeatures(
        transformer, torch.zeros(1, 64, 256)
    )
    jobs["dynamics, 100 steps"] = lambda: dynamics_metafeatures(curve)
    print(f"{'':34s}{'median s':>10s}{'longest s':>11s}")
    for name, job in jobs.items():
        job()
        seconds = [_seconds(job) for _ in range(REPEATS)]
        print(f"{name:34s}{np.median(seconds):10.3f}{max(seconds):11.3f}", flush=True)


def _seconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
