"""Prior weights of past tasks, before the present task has any trial.

Notation: t past tasks, f meta-features, m configurations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from metahpo.similarity.kglasso import KGLasso
from metahpo.similarity.neighbours import MAXIMUM_SQUARE
from metahpo.similarity.ranking import ranked
from metahpo.tasks.space import Array

# A meta-feature whose deviation is smaller, relative to its mean, is constant up to rounding.
MINIMUM_SPREAD = 1e-12
# Past tasks needed to learn which meta-features matter.
MINIMUM_TASKS = 20
# Fraction of the weight that is spread equally over all tasks, whatever the lasso selects.
SHRINKAGE = 0.25


def metafeature_weights(
    present: Mapping[str, float], past: Sequence[Mapping[str, float]]
) -> Array:
    """Weigh past tasks by a Gaussian kernel on standardised meta-features.

    Each meta-feature is standardised over the past tasks. Squared distances are means over the
    meta-features known on both sides, so that a missing one has no effect. The bandwidth is the
    median distance: a task at that distance has exp(-1/2) times the weight of one at distance 0.

    Args:
        present: Meta-features of the present task, by name.
        past: Meta-features of the t past tasks, by name.

    Returns:
        `t`, in (0, 1]; 1 for a task that has no meta-feature to compare.
    """
    names = [n for n, value in present.items() if np.isfinite(value)]
    if not names or not past:
        return np.ones(len(past))
    table = np.array([[task.get(n, np.nan) for n in names] for task in past], dtype=float)
    own = np.array([present[n] for n in names], dtype=float)
    squares, compared = _standardised_squares(table, own)
    weights = np.ones(len(past))
    seen = compared > 0
    if seen.any():
        means = squares[seen].sum(axis=1) / compared[seen]
        bandwidth = float(np.median(means)) or 1.0
        weights[seen] = np.exp(-0.5 * np.minimum(means / bandwidth, MAXIMUM_SQUARE))
    return weights


def _standardised_squares(table: Array, own: Array) -> tuple[Array, Array]:
    """Squared differences in units of the deviations, and how many of them are known.

    Args:
        table: `t x f`, of the past tasks; NaN or infinite where unknown.
        own: `f`, of the present task, finite.

    Returns:
        Of the v meta-features that vary over the past tasks: `t x v`, 0 where unknown, and `t`.
    """
    known = np.isfinite(table)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, table, 0.0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (table - mean) ** 2, 0.0).sum(axis=0) / count)
    varies = spread > MINIMUM_SPREAD * np.maximum(1.0, np.abs(mean))
    squares = np.where(known, (table - own) ** 2, 0.0)[:, varies] / spread[varies] ** 2
    return squares, known[:, varies].sum(axis=1)


def relevance(
    present: Mapping[str, float], past: Sequence[Mapping[str, float]], overlap: Array
) -> Array:
    """Return prior weights in which all meta-features count equally.

    Args:
        present: Meta-features of the present task, by name.
        past: Meta-features of the t past tasks, by name.
        overlap: `t`, fraction of the hyperparameters that each past task shares.

    Returns:
        `t`, sums to 1.
    """
    weights = metafeature_weights(present, past) * overlap
    return weights / weights.sum()


def default_kglasso() -> KGLasso:
    """Return the kernel group lasso with the settings of recommendations and samplers."""
    return KGLasso(cautious=False, shrinkage=SHRINKAGE)


def learned_relevance(
    present: Mapping[str, float],
    past: Sequence[Mapping[str, float]],
    performance: Array,
    overlap: Array,
) -> Array:
    """Return prior weights by the meta-features that a kernel group lasso selects.

    Args:
        present: Meta-features of the present task, by name.
        past: Meta-features of the t past tasks, by name.
        performance: `t x m`, performance of m configurations on the past tasks; larger is
            better.
        overlap: `t`, fraction of the hyperparameters that each past task shares.

    Returns:
        `t`, sums to 1. The weights of ``relevance`` if there are fewer than ``MINIMUM_TASKS``
        past tasks or no meta-features of the present one.
    """
    if not present or len(past) < MINIMUM_TASKS:
        return relevance(present, past, overlap)
    lasso = default_kglasso().fit(past, ranked(performance))
    # A prior mean cannot use negative weights, which mark tasks with the reverse ranking.
    weights = np.maximum(lasso.weights(present), 0.0) * overlap
    return weights / weights.sum()
