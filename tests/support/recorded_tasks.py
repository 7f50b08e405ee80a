"""Small tasks, sizes and settings for meta-trainings of the neural surrogate in tests."""

from pathlib import Path

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo import Archive, Task, Trial
from metahpo.surrogate.neural.neural_process import Architecture
from metahpo.tasks.space import Condition, Space
from metahpo.train.surrogate.surrogate_training import Settings

SMALL = Architecture(width=16, heads=2, layers=1, past_layers=1, latents=2, bars=12)
BRIEF = Settings(steps=4, budget=150, log_every=2, validate_every=4, warmup=2)
SPACE = Space(
    {
        "lr": FloatDistribution(1e-4, 1.0, log=True),
        "optimizer": CategoricalDistribution(("sgd", "adam")),
        "momentum": FloatDistribution(0.0, 1.0),
        "layers": IntDistribution(1, 5),
    },
    {"momentum": Condition("optimizer", choices=("sgd",))},
)


def bowl(name: str, optimum: float, count: int = 300) -> Task:
    """A task whose best learning rate lies at ``optimum`` of the unit interval."""
    rng = np.random.default_rng(sum(map(ord, name)))
    points = SPACE.activate(SPACE.snap(rng.random((count, len(SPACE)))))
    values = -((points[:, 0] - optimum) ** 2) + 0.1 * points[:, 1]
    configurations = SPACE.decode(points)
    return Task(name, SPACE, tuple(map(Trial, configurations, values.tolist())))


def archive(folder: Path, names: str, optima: list[float]) -> Path:
    tasks = [bowl(f"{names}/{i}", optimum) for i, optimum in enumerate(optima)]
    Archive(folder / names).extend(tasks)
    return folder / names
