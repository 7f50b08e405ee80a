"""Past tasks weighed by distances between meta-features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol, Self

import numpy as np

from metahpo.similarity.description import Standardiser
from metahpo.tasks.space import Array


class Similarity(Protocol):
    """What all similarities are: a prediction is the weighted mean of the past tasks'."""

    def fit(self, past: Sequence[Mapping[str, float]], performance: Array) -> Similarity:
        """Learns from t past tasks' meta-features and t x m performances."""
        ...

    def weights(self, present: Mapping[str, float]) -> Array:
        """T weights of the past tasks, which sum to 1."""
        ...

    @property
    def importance(self) -> dict[str, float]:
        """The meta-features that decide, with shares that sum to 1, largest first."""
        ...


class Distance(StrEnum):
    """How far apart two standardised descriptions are."""

    EUCLIDEAN = "euclidean"
    COSINE = "cosine"


class _Described:
    """What similarities by distance share.

    Args:
        distance: Of two descriptions.
    """

    def __init__(self, distance: Distance | str = Distance.EUCLIDEAN) -> None:
        self.distance = Distance(distance)

    def fit(self, past: Sequence[Mapping[str, float]], performance: Array) -> Self:
        """Keeps the past tasks' standardised meta-features; performance is not used."""
        self.standardiser = Standardiser(past)
        return self

    def distances(self, present: Mapping[str, float]) -> Array:
        """T distances, over the meta-features that both sides have; NaN without any."""
        return distances(self.standardiser.table, self.standardiser(present), self.distance)

    @property
    def importance(self) -> dict[str, float]:
        """All meta-features count alike."""
        names = self.standardiser.names
        return {name: 1.0 / len(names) for name in names}


class Neighbours(_Described):
    """The k nearest past tasks.

    Args:
        k: How many.
        distance: Of two descriptions.
        shrinkage: What share of the weight all tasks have alike.
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
        """T weights that sum to 1."""
        distances = self.distances(present)
        nearest = np.argsort(np.nan_to_num(distances, nan=np.inf), kind="stable")[: self.k]
        nearest = nearest[~np.isnan(distances[nearest])]
        chosen = np.zeros(len(distances))
        chosen[nearest if len(nearest) else slice(None)] = 1.0
        return shrunk(chosen, self.shrinkage)


class GaussianKernel(_Described):
    """All past tasks, by a Gaussian kernel whose bandwidth is a quantile of the distances.

    Args:
        distance: Of two descriptions.
        quantile: Of the distances to the past tasks; the smaller, the fewer of them count.
        shrinkage: What share of the weight all tasks have alike.
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
        """T weights that sum to 1."""
        return shrunk(gaussian(self.distances(present), self.quantile), self.shrinkage)


class Portfolio:
    """All past tasks alike, whatever describes them."""

    def fit(self, past: Sequence[Mapping[str, float]], performance: Array) -> Portfolio:
        """Counts the tasks."""
        self._tasks = len(past)
        return self

    def weights(self, present: Mapping[str, float]) -> Array:
        """T weights that sum to 1."""
        return np.full(self._tasks, 1.0 / self._tasks)

    @property
    def importance(self) -> dict[str, float]:
        """No meta-feature decides."""
        return {}


def distances(table: Array, own: Array, distance: Distance = Distance.EUCLIDEAN) -> Array:
    """Distances of one description to t others.

    Args:
        table: t x f, NaN where unknown.
        own: f.
        distance: Which.

    Returns:
        t; NaN where nothing is known on both sides.
    """
    both = ~np.isnan(table) & ~np.isnan(own)
    count = both.sum(axis=1)
    a, b = np.where(both, table, 0.0), np.where(both, own, 0.0)
    if distance is Distance.EUCLIDEAN:
        squares = ((a - b) ** 2).sum(axis=1) / np.maximum(count, 1)
        return np.where(count > 0, np.sqrt(squares), np.nan)
    sizes = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    cosine = (a * b).sum(axis=1) / np.where(sizes > 0, sizes, 1.0)
    return np.where(count > 0, 1.0 - cosine, np.nan)


def gaussian(distances: Array, quantile: float) -> Array:
    """T weights exp(-d^2 / 2 h^2); 1 where the distance is unknown."""
    known = distances[~np.isnan(distances)]
    if not len(known):
        return np.ones(len(distances))
    bandwidth = float(np.quantile(known, quantile)) or 1.0
    return np.exp(-0.5 * np.minimum((np.nan_to_num(distances) / bandwidth) ** 2, 50.0))


def shrunk(weights: Array, shrinkage: float) -> Array:
    """Weights that sum to 1, moved towards equal ones."""
    return (1.0 - shrinkage) * weights / weights.sum() + shrinkage / len(weights)
