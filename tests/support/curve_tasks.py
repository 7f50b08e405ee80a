"""Small tasks with learning curves, sizes and settings for meta-trainings in tests."""

from pathlib import Path

import numpy as np
from optuna.distributions import FloatDistribution

from metahpo import Archive, Task, Trial
from metahpo.surrogate.curves.curve_process import CurveArchitecture
from metahpo.tasks.space import Space
from metahpo.train.curves.curve_training import CurveSettings

SMALL = CurveArchitecture(width=16, grid=32, dilations=(1, 4), bars=12)


BRIEF = CurveSettings(steps=4, curves=24, log_every=2, validate_every=4, warmup=2)


SPACE = Space({"lr": FloatDistribution(1e-4, 1.0, log=True), "x": FloatDistribution(0.0, 1.0)})


def task(name: str, count: int = 30, steps: int = 20) -> Task:
    """Exponential curves whose speed and end follow the configuration."""
    rng = np.random.default_rng(sum(map(ord, name)))
    points = rng.random((count, len(SPACE)))
    scale = rng.uniform(0.5, 2.0)
    progress = np.arange(1, steps + 1) / steps
    speed = 1.0 + 4.0 * points[:, :1]
    values = scale * (1.0 + points[:, 1:]) * (1.0 - np.exp(-speed * progress))
    curves = [tuple((float(s), float(v)) for s, v in enumerate(row, 1)) for row in values]
    trials = tuple(
        Trial(configuration, curve[-1][1], curve=curve)
        for configuration, curve in zip(SPACE.decode(points), curves, strict=True)
    )
    return Task(name, SPACE, trials)


def archive(folder: Path, names: str, count: int) -> Path:
    Archive(folder / names).extend([task(f"{names}/{i}") for i in range(count)])
    return folder / names
