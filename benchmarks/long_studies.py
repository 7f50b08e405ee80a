"""Long studies: what seeing only some of the trials costs in regret, and a trial in time.

python -m benchmarks.long_studies regret --functions hartmann ackley --most 100 100000
python -m benchmarks.long_studies time --trials 10000 --surrogate neural
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Sequence

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution

from metahpo.settings import ContextSettings, PolicySettings
from metahpo.suggest.history import History
from metahpo.suggest.policy import suggest
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial
from optuna_meta import MetaSampler

Function = Callable[[NDArray[np.float64]], float]

# Hartmann's function of six variables (Dixon and Szegoe 1978).
_A = np.array([[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14],
               [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]])  # fmt: skip
_P = 1e-4 * np.array([[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
                      [2348, 1451, 3522, 2883, 3047, 6650],
                      [4047, 8828, 8732, 5743, 1091, 381]])  # fmt: skip
_LEAST = -3.32237
# What the measured studies ask for: names that the pretrained network knows among them.
_NAMES = ("learning_rate", "momentum", "weight_decay", "dropout", "width", "a", "b")


def _hartmann(x: NDArray[np.float64]) -> float:
    weights = np.array([1.0, 1.2, 3.0, 3.2])
    return -_LEAST - float(weights @ np.exp(-(_A * (x - _P) ** 2).sum(axis=1)))


def _ackley(x: NDArray[np.float64]) -> float:
    z = 8.0 * (x - 0.37)
    bowl, ripples = np.sqrt(np.mean(z**2)), np.cos(2.0 * np.pi * z).mean()
    return float(20.0 - 20.0 * np.exp(-0.2 * bowl) + np.e - np.exp(ripples))


def _rosenbrock(x: NDArray[np.float64]) -> float:
    z = 4.0 * x - 2.0
    return float((100.0 * (z[1:] - z[:-1] ** 2) ** 2 + (1.0 - z[:-1]) ** 2).sum())


FUNCTIONS: dict[str, tuple[Function, int]] = {
    "hartmann": (_hartmann, 6), "ackley": (_ackley, 5), "rosenbrock": (_rosenbrock, 4),
}  # fmt: skip


def bounded_to(most: int) -> PolicySettings:
    """Settings under which surrogates see about so many trials."""
    kept = min(ContextSettings.kept, 2 * most // 3)
    latest = min(ContextSettings.latest, most - kept)
    return PolicySettings(
        context=ContextSettings(most=most, kept=kept, best=kept // 2, latest=latest)
    )


def regret(function: str, surrogate: str, most: int, trials: int, seed: int) -> list[float]:
    """Simple regret after each 50 trials."""
    value, d = FUNCTIONS[function]
    space = Space({f"x{i}": FloatDistribution(0.0, 1.0) for i in range(d)})
    history, settings = History(), bounded_to(most)
    tried: list[Trial] = []
    for number in range(trials):
        task = Task("study", space, tuple(tried))
        options = {"seed": 1000 * seed + number, "surrogate": surrogate, "settings": settings}
        (configuration,) = suggest(task, history, **options).configurations
        tried.append(Trial(configuration, -value(np.array(list(configuration.values())))))
    best = np.maximum.accumulate([float(trial.value or 0.0) for trial in tried])
    return (-best[49::50]).tolist()


def measure_time(count: int, surrogate: str, repeats: int) -> list[str]:
    """Seconds of the processor for ask and tell after so many random trials, and the peak."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rng = np.random.default_rng(0)
    space: dict[str, BaseDistribution] = {name: FloatDistribution(0.0, 1.0) for name in _NAMES}
    study = optuna.create_study(sampler=MetaSampler(surrogate=surrogate, seed=0))
    for _ in range(count):
        params = {name: float(rng.random()) for name in _NAMES}
        loss = sum((value - 0.3) ** 2 for value in params.values())
        study.add_trial(optuna.create_trial(params=params, distributions=space, value=loss))
    seconds = []
    for _ in range(repeats + 1):
        start = time.process_time()
        trial = study.ask(space)
        study.tell(trial, sum((value - 0.3) ** 2 for value in trial.params.values()))
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    first, *others = seconds
    return [
        f"{count} trials, {surrogate}: first suggestion of the process {first:.2f} s",
        f"ask + tell of {repeats}: median {np.median(others):.2f} s, most {max(others):.2f} s, "
        f"peak memory {peak} MB",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was asked for, a line a study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["regret", "time"])
    parser.add_argument("--functions", nargs="+", default=list(FUNCTIONS), choices=list(FUNCTIONS))
    parser.add_argument("--surrogate", default="gp")
    parser.add_argument("--most", nargs="+", type=int, default=[300, 1_000_000])
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    given = parser.parse_args(arguments)
    if given.what == "time":
        print("\n".join(measure_time(given.trials, given.surrogate, given.repeats)))
        return
    for function in given.functions:
        for seed in range(given.seeds):
            for most in given.most:
                found = regret(function, given.surrogate, most, given.trials, seed)
                shown = " ".join(f"{value:.1e}" for value in found)
                print(f"{function} seed {seed} most {most}: {shown}", flush=True)


if __name__ == "__main__":
    main()
