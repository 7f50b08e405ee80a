"""Run as a program: suggestions for a hyperparameter of many choices; prints the peak of memory.

python -m support.many_choices CHOICES SURROGATE
"""

import resource
import sys

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution

from metahpo.settings import PolicySettings, PortfolioSettings
from metahpo.suggest.policy import suggest
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial


def main(count: int, surrogate: str) -> None:
    """Two suggestions of a study with a history, three at a time; the peak in MiB."""
    names = tuple(f"choice-{number}" for number in range(count))
    space = Space({"lr": FloatDistribution(0, 1), "c": CategoricalDistribution(names)})
    tasks = [task(space, names, seed) for seed in range(3)]
    settings = PolicySettings(portfolio=PortfolioSettings(trees=20))
    decision = suggest(tasks[0], tasks[1:], count=3, surrogate=surrogate, settings=settings)
    assert len({c["c"] for c in decision.configurations}) >= 1
    suggest(tasks[0], [], surrogate=surrogate)
    sys.stdout.write(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}\n")


def task(space: Space, names: tuple[str, ...], seed: int) -> Task:
    """Forty random trials; every tenth choice is good."""
    rng = np.random.default_rng(seed)
    rows = [(float(rng.random()), int(rng.integers(len(names)))) for _ in range(40)]
    trials = tuple(Trial({"lr": x, "c": names[i]}, -abs(x - 0.3) - (i % 10 > 0)) for x, i in rows)
    return Task(f"task-{seed}", space, trials)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
