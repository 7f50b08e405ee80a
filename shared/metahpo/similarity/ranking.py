"""Ranks: what past tasks are compared by, and how well they rank the present task's trials."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from metahpo.tasks.space import Array

# How fast disagreement counts: the exponent of a Gibbs posterior over past tasks whose loss is
# the share of misranked pairs, per trial.
SHARPNESS = 1.0
# Trials beyond this many sharpen no further, so that no single past task takes over.
SHARPENS_UNTIL = 20


def ranked(scores: Array) -> Array:
    """Rows from 0 at the lowest rank to 1 at the highest, as similarities are learned from.

    Args:
        scores: t x m.
    """
    return (rankdata(scores, axis=1) - 1.0) / max(scores.shape[1] - 1, 1)


def agreement(values: Array, predictions: Array) -> Array:
    """Share of the present trials' pairs that each past task ranks the right way round.

    The ranking loss of RGPE (Feurer et al. 2018, "Practical transfer learning for Bayesian
    optimization", eq. 4), turned into a share. Ties among the values are left out.

    Args:
        values: n observed values of the present task.
        predictions: n x t, what past tasks predict there.

    Returns:
        t numbers in [0, 1]; 1/2 where there is no pair to rank.
    """
    i, j = np.triu_indices(len(values), k=1)
    order = np.sign(values[i] - values[j])
    telling = order != 0
    if not telling.any():
        return np.full(predictions.shape[1], 0.5)
    predicted = np.sign(predictions[i[telling]] - predictions[j[telling]])
    return (1.0 + (order[telling, None] * predicted).mean(axis=0)) / 2.0


def sharpen(relevance: Array, values: Array, predictions: Array) -> Array:
    """Prior weights of past tasks, sharpened by agreement with the present trials.

    Args:
        relevance: t weights that sum to 1.
        values: n observed values.
        predictions: n x t.

    Returns:
        t weights that sum to 1.
    """
    trials = min(len(values), SHARPENS_UNTIL)
    shares = agreement(values, predictions)
    weights = relevance * np.exp(SHARPNESS * trials * (shares - shares.max()))
    return weights / weights.sum()
