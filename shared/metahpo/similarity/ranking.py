"""Ranks of configurations: scaling them, and how well past tasks rank the present trials.

Notation: n trials of the present task, t past tasks, m configurations.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from metahpo.tasks.space import Array


def ranked(scores: Array) -> Array:
    """Replace the scores in each row by ranks, from 0 for the lowest to 1 for the highest.

    Args:
        scores: `t x m`.

    Returns:
        `t x m`; ties share the mean of their ranks.
    """
    return (rankdata(scores, axis=1) - 1.0) / max(scores.shape[1] - 1, 1)


def agreement(values: Array, predictions: Array) -> Array:
    """Return the fraction of pairs of present trials that each past task ranks correctly.

    One minus the ranking loss of RGPE (Feurer et al. 2018, "Practical transfer learning for
    Bayesian optimization", eq. 4) per pair. Pairs with equal values are left out; a tie among
    the predictions counts one half.

    Args:
        values: `n`, observed values of the present task.
        predictions: `n x t`, predictions of each past task at the same configurations.

    Returns:
        `t`, in [0, 1]; 1/2 if there is no pair to rank.
    """
    i, j = np.triu_indices(len(values), k=1)
    order = np.sign(values[i] - values[j])
    untied = order != 0
    if not untied.any():
        return np.full(predictions.shape[1], 0.5)
    predicted = np.sign(predictions[i[untied]] - predictions[j[untied]])
    return (1.0 + (order[untied, None] * predicted).mean(axis=0)) / 2.0
