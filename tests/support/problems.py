"""Search spaces, objectives and past tasks that several test files need."""

from collections.abc import Callable

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo.tasks.space import Condition, Configuration, Space
from metahpo.tasks.task import Task, Trial, TrialState

UNIT = FloatDistribution(0, 1)
LINE = Space({"x": UNIT})
PLANE = Space({"x": UNIT, "y": UNIT})
CHOICE = Space({"x": UNIT, "c": CategoricalDistribution(["a", "b"])})
# Log scale, steps, and a choice that is None.
NETWORK = Space(
    {
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "layers": IntDistribution(2, 8, step=2),
        "act": CategoricalDistribution(["relu", None]),
    }
)
CONDITIONAL = Space(
    {
        "lr": FloatDistribution(1e-5, 1, log=True),
        "layers": IntDistribution(1, 4),
        "optimizer": CategoricalDistribution(["adam", "sgd"]),
        "momentum": UNIT,
    },
    {"momentum": Condition("optimizer", choices=("sgd",))},
)

Objective = Callable[[Configuration], float | None]


def bowl(x: float, y: float = 0.5) -> Objective:
    """A quadratic of "x" and "y" with its maximum, 0, at the given point."""
    return lambda c: -((c.get("x", x) - x) ** 2) - (c.get("y", y) - y) ** 2


def trial(configuration: Configuration, value: float | None) -> Trial:
    """A completed trial, or a failed one if the value is None."""
    state = TrialState.FAILED if value is None else TrialState.COMPLETE
    return Trial(configuration, value, state)


def random_task(
    objective: Objective, space: Space = PLANE, n: int = 20, seed: int = 0, name: str = ""
) -> Task:
    """A task of n random trials."""
    points = space.activate(np.random.default_rng(seed).random((n, len(space))))
    trials = tuple(trial(c, objective(c)) for c in space.decode(points))
    return Task(name or f"past-{seed}", space, trials)


def history_of(*objectives: Objective, space: Space = PLANE, n: int = 20) -> list[Task]:
    """One task of n random trials per objective."""
    return [random_task(f, space, n, seed=i) for i, f in enumerate(objectives)]


def described_tasks(count: int = 24, *, shared: bool = True) -> list[Task]:
    """Tasks in ``CHOICE`` whose optimum follows one meta-feature, "where"; "noise" is random.

    Args:
        count: Number of tasks; the optimum of task i is at x = (i + 0.5) / count, c = "a".
        shared: Whether all tasks evaluate the same configurations.
    """
    rng = np.random.default_rng(0)
    tasks = []
    for number in range(count):
        optimum = (number + 0.5) / count
        xs = np.linspace(0.0, 1.0, 15) if shared else rng.random(15)
        trials = tuple(
            Trial({"x": float(x), "c": c}, -((x - optimum) ** 2) - 0.01 * (c == "b"))
            for x in xs
            for c in ("a", "b")
        )
        metafeatures = {"where": optimum**3 * 1e4, "noise": float(rng.normal())}
        tasks.append(Task(f"t{number}", CHOICE, trials, metafeatures))
    return tasks
