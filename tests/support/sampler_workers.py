"""What tests of MetaSampler run in other processes, which cannot import the tests themselves."""

import time

import optuna

from metahpo import Space, Task, Trial
from optuna_meta import MetaSampler

SPACE = Space(
    {
        "x": optuna.distributions.FloatDistribution(-5, 5),
        "y": optuna.distributions.FloatDistribution(1e-4, 1, log=True),
    }
)


def loss(x: float, y: float) -> float:
    return (x - 2) ** 2 + y


def past() -> Task:
    tried = [{"x": x / 2, "y": 10 ** -(i % 5)} for i, x in enumerate(range(-10, 11))]
    return Task("past", SPACE, tuple(Trial(c, -loss(**c)) for c in tried))


def objective(trial) -> float:
    return loss(trial.suggest_float("x", -5, 5), trial.suggest_float("y", 1e-4, 1, log=True))


def slow_objective(trial) -> float:
    value = objective(trial)
    time.sleep(0.1)
    return value


def work(url: str, ready, n_trials: int) -> None:
    """Run trials of the study "shared", once all workers are ready."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(
        study_name="shared", storage=url, sampler=MetaSampler(history=past(), seed=0)
    )
    ready.wait()
    study.optimize(slow_objective, n_trials=n_trials)


def suggestions(_) -> list[dict]:
    """The parameters of five trials with a fixed seed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=MetaSampler(history=past(), seed=7))
    study.optimize(objective, n_trials=5)
    return [trial.params for trial in study.trials]
