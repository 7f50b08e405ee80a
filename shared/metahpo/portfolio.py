"""Few configurations that together do well over all past tasks."""

from __future__ import annotations

import numpy as np

from metahpo.space import Array


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
