"""The methods compared: what a user of Optuna has today, and this project's own.

random, tpe, gp       Optuna's samplers at their defaults
tpe+portfolio,        the same after eight configurations chosen from history by a greedy
gp+portfolio          portfolio, enqueued first, as a careful user would
meta, meta-none       MetaSampler with the history, and without any
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from sklearn.ensemble import ExtraTreesRegressor

from benchmarks.problems import Problem
from metahpo.space import Array, Space
from metahpo.task import Task

PORTFOLIO_SIZE = 8
CANDIDATES_PER_TASK = 30
TREES = 100


@dataclass(frozen=True)
class Run:
    """What one method did on one problem.

    Attributes:
        values: The value of each trial, in order.
        milliseconds: What asking and telling took, for each trial.
        setup_milliseconds: What it took to make ready: reading history, choosing a portfolio.
    """

    values: list[float]
    milliseconds: list[float]
    setup_milliseconds: float


def run(method: str, problem: Problem, history: Sequence[Task], seed: int, n_trials: int) -> Run:
    """One study.

    Args:
        method: One of ``METHODS``.
        problem: What is tuned.
        history: Past tasks.
        seed: The sampler's.
        n_trials: How many trials.
    """
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler, enqueued = METHODS[method](problem, history, seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for configuration in enqueued:
        study.enqueue_trial(configuration)
    setup = time.perf_counter() - begin
    trials = [_trial(study, problem) for _ in range(n_trials)]
    return Run([v for v, _ in trials], [ms for _, ms in trials], 1000 * setup)


def _trial(study: optuna.Study, problem: Problem) -> tuple[float, float]:
    """The value of one more trial, and the milliseconds that the sampler took."""
    asking = time.perf_counter()
    trial = study.ask()
    configuration = problem.suggest(trial)
    asked = time.perf_counter()
    value = float(problem.evaluate([configuration])[0])
    telling = time.perf_counter()
    study.tell(trial, value)
    told = time.perf_counter()
    return value, 1000 * (asked - asking + told - telling)


# ---- methods -------------------------------------------------------------------------------

Configurations = list[dict[str, Any]]
Setup = Callable[
    [Problem, Sequence[Task], int], tuple[optuna.samplers.BaseSampler, Configurations]
]


def _plain(sampler: Callable[..., optuna.samplers.BaseSampler]) -> Setup:
    return lambda problem, history, seed: (sampler(seed=seed), [])


def _with_portfolio(sampler: Callable[..., optuna.samplers.BaseSampler]) -> Setup:
    return lambda problem, history, seed: (
        sampler(seed=seed),
        portfolio(history, problem.space) if history else [],
    )


def _meta(
    problem: Problem, history: Sequence[Task], seed: int
) -> tuple[optuna.samplers.BaseSampler, Configurations]:
    # Imported here: the peers run without it.
    from optuna_meta import MetaSampler

    return MetaSampler(history=list(history), seed=seed), []


METHODS: dict[str, Setup] = {
    "random": _plain(optuna.samplers.RandomSampler),
    "tpe": _plain(optuna.samplers.TPESampler),
    "gp": _plain(optuna.samplers.GPSampler),
    "tpe+portfolio": _with_portfolio(optuna.samplers.TPESampler),
    "gp+portfolio": _with_portfolio(optuna.samplers.GPSampler),
    "meta": _meta,
    "meta-none": lambda problem, history, seed: _meta(problem, [], seed),
}
# What of the methods does not depend on the history need not be run again for another one.
HISTORYLESS = frozenset({"random", "tpe", "gp", "meta-none"})


# ---- the greedy portfolio ------------------------------------------------------------------

_portfolios: dict[str, Configurations] = {}


def portfolio(history: Sequence[Task], space: Space) -> Configurations:
    """Few configurations of the past that together do well over all past tasks.

    Kept by content for as long as the process lives.

    Args:
        history: Past tasks; never empty.
        space: The space of the task to come.
    """
    key = hashlib.sha256(repr((history, space)).encode()).hexdigest()
    if key not in _portfolios:
        _portfolios[key] = _choose(history, space)
    return _portfolios[key]


def _choose(history: Sequence[Task], space: Space) -> Configurations:
    candidates = _candidates(history, space)
    features = space.features(space.activate(candidates))
    regrets = np.stack([_predicted_regrets(task, space, features) for task in history])
    chosen = greedy(regrets, PORTFOLIO_SIZE)
    return space.decode(space.activate(candidates[chosen]))


def greedy(regrets: Array, size: int) -> list[int]:
    """Candidates chosen one by one to minimise the mean over tasks of the best regret so far.

    Args:
        regrets: tasks x candidates.
        size: How many to choose.

    Returns:
        Indices of the candidates in the order in which they were chosen.
    """
    so_far = np.full((len(regrets), 1), np.inf)
    chosen: list[int] = []
    for _ in range(min(size, regrets.shape[1])):
        mean = np.minimum(so_far, regrets).mean(axis=0)
        mean[chosen] = np.inf
        chosen.append(int(mean.argmin()))
        so_far = np.minimum(so_far, regrets[:, chosen[-1:]])
    return chosen


def _candidates(history: Sequence[Task], space: Space) -> Array:
    """The best configurations of each past task, as points of the present space."""
    best = [
        task.observed[i].configuration
        for task in history
        for i in np.argsort(-_values(task), kind="stable")[:CANDIDATES_PER_TASK]
    ]
    return np.clip(space.encode(best), 0.0, 1.0)


def _predicted_regrets(task: Task, space: Space, features: Array) -> Array:
    """The regret of each candidate on a past task, from trees fitted to its trials."""
    points = space.activate(space.encode([trial.configuration for trial in task.observed]))
    regrets = standardised_regrets(_values(task))
    trees = ExtraTreesRegressor(TREES, random_state=0, n_jobs=1)
    return trees.fit(space.features(points), regrets).predict(features)


def _values(task: Task) -> Array:
    return np.array([trial.value for trial in task.observed], float)


def standardised_regrets(values: Array) -> Array:
    """Distances to the best in units of the distance between the best and the median.

    The worst values of a task are often of another order; they count as twice the median's.
    """
    best, median = values.max(), np.median(values)
    span = best - median if best > median else 1.0
    return np.minimum((best - values) / span, 2.0)
