"""Few configurations that together do well over all past tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from metahpo.settings import PortfolioSettings
from metahpo.surrogate.features import FeatureMap
from metahpo.tasks.alignment import AlignedTask
from metahpo.tasks.space import Array


def candidate_scores(
    tasks: Sequence[AlignedTask],
    features: FeatureMap,
    points: Array,
    settings: PortfolioSettings,
    *,
    seed: int = 0,
) -> Array:
    """How well each candidate is expected to do on each past task.

    Predicted by extremely randomised trees (Geurts et al. 2006), which stay within what was
    observed. Among the configurations that past tasks tried they choose better ones than Gaussian
    processes do, whose largest prediction is often their largest error.

    Args:
        tasks: ``t`` past tasks, aligned and thinned; at least one.
        features: Of the space that the tasks are aligned to.
        points: ``n x d``.
        settings: How many trees, and the worst score.
        seed: Of the trees.

    Returns:
        ``n x t``: 0 for a past task's median value, 1 for its best, nothing below
        ``settings.worst_score``.
    """
    count = max(settings.trees_per_task, settings.trees // len(tasks))
    X = features.array(points)
    columns = []
    for task in tasks:
        trees = ExtraTreesRegressor(count, random_state=seed)
        trees.fit(features.of_task(task), _median_to_best(task.values, settings.worst_score))
        columns.append(trees.predict(X))
    return np.stack(columns, axis=1)


def _median_to_best(values: Array, worst: float) -> Array:
    """0 for the median, 1 for the best, floored; nothing but 0 and ``worst`` where they agree."""
    median, best = float(np.median(values)), float(values.max())
    if best == median:
        return np.where(values < median, worst, 0.0)
    # In parts of the distance: that of huge values would overflow.
    span = best / 2.0 - median / 2.0
    return np.maximum((values / 2.0 - median / 2.0) / span, worst)


def greedy_portfolio(scores: Array, weights: Array, size: int) -> list[int]:
    """Candidates chosen one by one for the best mean, over tasks, of the best score so far.

    The first is the best on average; each next one covers the tasks that the earlier ones
    serve badly. The objective is submodular, so that, for scores that are not negative, the
    greedy choice is within 1 - 1/e of the best portfolio of its size (Wistuba et al. 2015,
    "Sequential model-free hyperparameter tuning").

    Args:
        scores: ``n x t``, of n candidates on t past tasks, on comparable scales.
        weights: ``t``, how much each past task matters.
        size: How many candidates to choose; at most n are.

    Returns:
        Indices of the candidates, in the order of the choice.
    """
    best = np.full(scores.shape[1], -np.inf)
    chosen: list[int] = []
    for _ in range(min(size, len(scores))):
        means = np.maximum(scores, best) @ weights
        means[chosen] = -np.inf
        chosen.append(int(np.argmax(means)))
        best = np.maximum(best, scores[chosen[-1]])
    return chosen
