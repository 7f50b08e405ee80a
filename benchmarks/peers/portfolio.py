"""Configurations that did well in past studies, as a careful user would enqueue them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from metahpo.surrogate.features import FeatureMap
from metahpo.tasks.space import INACTIVE_POSITION, Array, Configuration, Space
from metahpo.tasks.task import Task

PORTFOLIO_SIZE = 8
CANDIDATES_PER_TASK = 30
TREES = 100


_portfolios: dict[str, list[dict[str, Any]]] = {}


def portfolio(history: Sequence[Task], space: Space) -> list[dict[str, Any]]:
    """A few past configurations that together do well over all past tasks.

    Kept by content for as long as the process lives.

    Args:
        history: Past tasks; never empty.
        space: The space of the task to come.
    """
    key = hashlib.sha256(repr((history, space)).encode()).hexdigest()
    if key not in _portfolios:
        _portfolios[key] = _choose(history, space)
    return _portfolios[key]


def best_of_each(history: Sequence[Task], space: Space) -> list[dict[str, Any]]:
    """The best configuration of every past task, each once, those of the first tasks first."""
    points = np.unique(candidates(history, space, 1), axis=0, return_index=True)[1]
    chosen = space.activate(candidates(history, space, 1)[np.sort(points)])
    return space.decode(chosen)


def candidate_regrets(history: Sequence[Task], space: Space) -> tuple[Array, Array]:
    """The best past configurations, and the predicted regret of each on every past task.

    Args:
        history: Past tasks; never empty.
        space: The space of the task to come.

    Returns:
        Points, n x d, all active; and tasks x n predicted regrets.
    """
    points = candidates(history, space, CANDIDATES_PER_TASK)
    features = FeatureMap(space).array(space.activate(points))
    return points, np.stack([_predicted_regrets(task, space, features) for task in history])


def _choose(history: Sequence[Task], space: Space) -> list[dict[str, Any]]:
    points, regrets = candidate_regrets(history, space)
    return space.decode(space.activate(points[greedy(regrets, PORTFOLIO_SIZE)]))


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


def candidates(history: Sequence[Task], space: Space, count: int) -> Array:
    """The ``count`` best configurations of each past task, as points of the present space.

    What the past did not have, or had under another name, is halfway.
    """
    best = [
        task.observed[i].configuration
        for task in history
        for i in np.argsort(-values_of(task), kind="stable")[:count]
    ]
    return all_active(best, space)


def all_active(configurations: Sequence[Configuration], space: Space) -> Array:
    """Configurations of other spaces as points of this one, n x d in [0, 1] and without NaN."""
    points = np.clip(space.encode(configurations), 0.0, 1.0)
    return np.where(np.isnan(points), INACTIVE_POSITION, points)


def _predicted_regrets(task: Task, space: Space, features: Array) -> Array:
    """The regret of each candidate on a past task, from trees fitted to its trials."""
    points = space.activate(space.encode([trial.configuration for trial in task.observed]))
    regrets = standardised_regrets(values_of(task))
    trees = ExtraTreesRegressor(TREES, random_state=0, n_jobs=1)
    return trees.fit(FeatureMap(space).array(points), regrets).predict(features)


def values_of(task: Task) -> Array:
    """Values of the trials that have one."""
    return np.array([trial.value for trial in task.observed], float)


def standardised_regrets(values: Array) -> Array:
    """Distances to the best in units of the distance between the best and the median.

    The worst values of a task are often of another order; they count as twice the median's.
    """
    best, median = values.max(), np.median(values)
    span = best - median if best > median else 1.0
    return np.minimum((best - values) / span, 2.0)
