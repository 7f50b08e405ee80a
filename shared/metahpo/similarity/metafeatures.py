"""How much a past task matters before the present one has any trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from metahpo.similarity.kglasso import KGLasso
from metahpo.similarity.ranking import ranked
from metahpo.tasks.space import Array

# A meta-feature that varies less, relative to its size, is constant up to rounding.
MINIMUM_SPREAD = 1e-12
# From fewer tasks nothing is learned about which meta-features matter.
LEARNABLE = 20
# What share of the weight all tasks have alike, whatever the selected meta-features say.
SHRINKAGE = 0.25


def metafeature_weights(
    present: Mapping[str, float], past: Sequence[Mapping[str, float]]
) -> Array:
    """A Gaussian kernel on standardised meta-features.

    Each meta-feature is standardised over the past tasks; distances are means over the
    meta-features that both sides have, so that a missing one says nothing. The bandwidth is
    the median distance: a task there counts exp(-1/2) as much as one at distance 0.

    Args:
        present: The present task's meta-features.
        past: t past tasks' meta-features.

    Returns:
        t weights in (0, 1]; 1 where there is nothing to compare.
    """
    names = [n for n, value in present.items() if np.isfinite(value)]
    if not names or not past:
        return np.ones(len(past))
    table = np.array([[task.get(n, np.nan) for n in names] for task in past], dtype=float)
    own = np.array([present[n] for n in names], dtype=float)
    known = np.isfinite(table)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, table, 0.0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (table - mean) ** 2, 0.0).sum(axis=0) / count)
    telling = spread > MINIMUM_SPREAD * np.maximum(1.0, np.abs(mean))
    squares = np.where(known, (table - own) ** 2, 0.0)[:, telling] / spread[telling] ** 2
    compared = known[:, telling].sum(axis=1)
    weights = np.ones(len(past))
    seen = compared > 0
    if seen.any():
        distances = squares[seen].sum(axis=1) / compared[seen]
        bandwidth = float(np.median(distances)) or 1.0
        weights[seen] = np.exp(-0.5 * np.minimum(distances / bandwidth, 50.0))
    return weights


def relevance(
    present: Mapping[str, float], past: Sequence[Mapping[str, float]], overlap: Array
) -> Array:
    """Prior weights of the past tasks.

    Args:
        present: The present task's meta-features.
        past: t past tasks' meta-features.
        overlap: t, share of the hyperparameters that match.

    Returns:
        t weights that sum to 1.
    """
    weights = metafeature_weights(present, past) * overlap
    return weights / weights.sum()


def default_kglasso() -> KGLasso:
    """The kernel group lasso with the settings that recommendations and samplers share."""
    return KGLasso(cautious=False, shrinkage=SHRINKAGE)


def learned_relevance(
    present: Mapping[str, float],
    past: Sequence[Mapping[str, float]],
    performance: Array,
    overlap: Array,
) -> Array:
    """Prior weights of the past tasks, by the meta-features that have mattered among them.

    Args:
        present: The present task's meta-features.
        past: t past tasks' meta-features.
        performance: t x m, of m configurations on the past tasks.
        overlap: t, share of the hyperparameters that match.

    Returns:
        t weights that sum to 1; those of ``relevance`` where there is too little to learn from.
    """
    if not present or len(past) < LEARNABLE:
        return relevance(present, past, overlap)
    lasso = default_kglasso().fit(past, ranked(performance))
    # What tells where not to look cannot be the mean of a prior.
    weights = np.maximum(lasso.weights(present), 0.0) * overlap
    return weights / weights.sum()
