"""Similarities based on distances between meta-features.

Notation: t past tasks, f standardised meta-features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Self

import numpy as np

from metahpo.similarity.metafeature_scaling import Standardiser
from metahpo.similarity.similarity import shrink
from metahpo.tasks.space import Array

# Upper bound on the squared distance in bandwidths, so that no weight underflows to 0.
MAXIMUM_SQUARE = 50.0


class Distance(StrEnum):
    """A distance between the standardised meta-features of two tasks."""

    EUCLIDEAN = "euclidean"
    COSINE = "cosine"


class _DistanceBased:
    """What the similarities in this file share: standardised meta-features and distances."""

    def __init__(self, distance: Distance | str = Distance.EUCLIDEAN) -> None:
        self.distance = Distance(distance)

    def fit(self, past: Sequence[Mapping[str, float]], performance: Array) -> Self:
        """Standardise the meta-features of the past tasks; ``performance`` is not used."""
        self.standardiser = Standardiser(past)
        return self

    def distances(self, present: Mapping[str, float]) -> Array:
        """Return `t` distances over the meta-features known on both sides; NaN without any."""
        return distances(self.standardiser.table, self.standardiser(present), self.distance)

    @property
    def importance(self) -> dict[str, float]:
        """Equal shares: every meta-feature has the same influence on the distance."""
        names = self.standardiser.names
        return {name: 1.0 / len(names) for name in names}


class Neighbours(_DistanceBased):
    """Equal weights for the k nearest past tasks.

    Args:
        k: Number of neighbours.
        distance: Distance between tasks.
        shrinkage: Fraction of the total weight that is spread equally over all tasks.

    Raises:
        ValueError: If ``k`` is below 1 or ``distance`` is unknown.
    """

    def __init__(
        self,
        k: int = 10,
        distance: Distance | str = Distance.EUCLIDEAN,
        *,
        shrinkage: float = 0.0,
    ) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        super().__init__(distance)
        self.k, self.shrinkage = k, shrinkage

    def weights(self, present: Mapping[str, float]) -> Array:
        """Return `t` weights that sum to 1; equal ones if no distance is known."""
        distances = self.distances(present)
        nearest = np.argsort(np.nan_to_num(distances, nan=np.inf), kind="stable")[: self.k]
        nearest = nearest[~np.isnan(distances[nearest])]
        chosen = np.zeros(len(distances))
        chosen[nearest if len(nearest) else slice(None)] = 1.0
        return shrink(chosen, self.shrinkage)


class GaussianKernel(_DistanceBased):
    """Weights by a Gaussian kernel whose bandwidth is a quantile of the distances.

    Args:
        distance: Distance between tasks.
        quantile: Quantile of the distances to the past tasks; a small one concentrates the
            weight on few tasks.
        shrinkage: Fraction of the total weight that is spread equally over all tasks.

    Raises:
        ValueError: If ``distance`` is unknown.
    """

    def __init__(
        self,
        distance: Distance | str = Distance.EUCLIDEAN,
        *,
        quantile: float = 0.5,
        shrinkage: float = 0.0,
    ) -> None:
        super().__init__(distance)
        self.quantile, self.shrinkage = quantile, shrinkage

    def weights(self, present: Mapping[str, float]) -> Array:
        """Return `t` weights that sum to 1."""
        return shrink(gaussian(self.distances(present), self.quantile), self.shrinkage)


def distances(table: Array, own: Array, distance: Distance = Distance.EUCLIDEAN) -> Array:
    """Return the distances of one task to t others, over the meta-features known of both.

    Args:
        table: `t x f`, NaN where unknown.
        own: `f`, NaN where unknown.
        distance: Euclidean (root mean square over the known meta-features) or cosine.

    Returns:
        `t`; NaN where no meta-feature is known on both sides.
    """
    both = ~np.isnan(table) & ~np.isnan(own)
    count = both.sum(axis=1)
    a, b = np.where(both, table, 0.0), np.where(both, own, 0.0)
    if distance is Distance.EUCLIDEAN:
        squares = ((a - b) ** 2).sum(axis=1) / np.maximum(count, 1)
        return np.where(count > 0, np.sqrt(squares), np.nan)
    norms = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    cosine = (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    return np.where(count > 0, 1.0 - cosine, np.nan)


def gaussian(distances: Array, quantile: float) -> Array:
    """Return weights exp(-d^2 / 2 h^2), where h is a quantile of the distances.

    Args:
        distances: `t`, NaN where unknown.
        quantile: In [0, 1].

    Returns:
        `t`, in (0, 1]; 1 where the distance is unknown.
    """
    known = distances[~np.isnan(distances)]
    if not len(known):
        return np.ones(len(distances))
    bandwidth = float(np.quantile(known, quantile)) or 1.0
    squares = np.minimum((np.nan_to_num(distances) / bandwidth) ** 2, MAXIMUM_SQUARE)
    return np.exp(-0.5 * squares)
