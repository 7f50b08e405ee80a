"""Few configurations that together do well over all past tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from metahpo.surrogate.gp.past_models import aligned_features, thin
from metahpo.tasks.alignment import AlignedTask
from metahpo.tasks.space import Array, Space

# Over all past tasks together, and the fewest for one of them.
TREES = 600
LEAST_TREES = 5
# The least score: a configuration that fails is no worse than one that is as far below the
# median as the best is above it.
WORST = -1.0


def candidate_scores(
    tasks: Sequence[AlignedTask], space: Space, points: Array, *, seed: int = 0
) -> Array:
    """How each candidate is expected to fare on each past task.

    Predicted by extremely randomised trees (Geurts et al. 2006), which stay within what was
    observed. Of the configurations that past tasks tried they choose better ones than Gaussian
    processes do, whose largest prediction is often their largest error.

    Args:
        tasks: t past tasks, aligned to ``space``; at least one.
        space: The present space.
        points: n x d.
        seed: Of the trees.

    Returns:
        n x t: 0 for a past task's median value, 1 for its best, nothing below ``WORST``.
    """
    count = max(LEAST_TREES, TREES // len(tasks))
    features = space.features(points)
    rng = np.random.default_rng(seed)
    columns = []
    for task in (thin(task, rng) for task in tasks):
        trees = ExtraTreesRegressor(count, random_state=seed)
        trees.fit(aligned_features(task, space), _median_to_best(task.values))
        columns.append(trees.predict(features))
    return np.stack(columns, axis=1)


def _median_to_best(values: Array) -> Array:
    """0 for the median, 1 for the best, floored; nothing but 0 and ``WORST`` where they agree."""
    median, best = float(np.median(values)), float(values.max())
    if best == median:
        return np.where(values < median, WORST, 0.0)
    # In parts of the distance: that of huge values would overflow.
    span = best / 2.0 - median / 2.0
    return np.maximum((values / 2.0 - median / 2.0) / span, WORST)


def greedy_portfolio(scores: Array, weights: Array, size: int) -> list[int]:
    """Candidates chosen one by one for the best mean, over tasks, of the best score so far.

    The first is the best on average; each next one covers the tasks that the earlier ones
    serve badly. The objective is submodular, so that, for scores that are not negative, the
    greedy choice is within 1 - 1/e of the best portfolio of its size (Wistuba et al. 2015,
    "Sequential model-free hyperparameter tuning").

    Args:
        scores: n x t, of n candidates on t past tasks, on comparable scales.
        weights: t, how much each past task matters.
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
