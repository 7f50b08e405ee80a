"""Values of different tasks on one scale.

A task's values are its own: their location, their unit, and how far the failures lie below.
Models see scores instead, which a warp makes of values y:

    z = (y - centre) / unit
    s = z where z >= 0, and -k log(1 - z / k) below, with k = COMPRESSION

Above the centre scores are linear, so that improvements keep their proportions; below it they
are compressed, because by how much a bad configuration is bad tells little about where the good
ones are. The compression follows the idea of Vizier's half-rank warping (Song et al. 2024, "The
Vizier Gaussian process bandit algorithm"), with the difference that it is a smooth function of
two parameters: they can be fitted, and its density is known.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from metahpo.space import Array

COMPRESSION = 1.0


class Warp(NamedTuple):
    """Values to scores.

    Attributes:
        centre: The value of score 0.
        unit: Values a score of 1 lies above it; positive.
    """

    centre: float
    unit: float

    def scores(self, values: Array) -> Array:
        """N scores of n values."""
        z = (values - self.centre) / self.unit
        below = -COMPRESSION * np.log1p(np.maximum(-z, 0.0) / COMPRESSION)
        return np.where(z < 0.0, below, z)

    def values(self, scores: Array) -> Array:
        """N values of n scores."""
        below = COMPRESSION * np.expm1(np.maximum(-scores, 0.0) / COMPRESSION)
        return self.centre + self.unit * np.where(scores < 0.0, -below, scores)

    def log_slopes(self, values: Array) -> Array:
        """N logarithms of d scores / d values: they carry densities back to values."""
        z = (values - self.centre) / self.unit
        return -np.log1p(np.maximum(-z, 0.0) / COMPRESSION) - math.log(self.unit)


def own_warp(values: Array) -> Warp:
    """The warp that a task's own values suggest.

    Args:
        values: n finite values.

    Returns:
        Centred at the median; the unit is the root mean square distance of the upper half to
        it, the standard deviation where that is nothing, 1 where all values agree.
    """
    centre = float(np.median(values))
    # In parts of the largest: the squares of huge values would overflow.
    largest = float(np.abs(values).max())
    if not largest:
        return Warp(centre, 1.0)
    distances = values / largest - centre / largest
    unit = float(np.sqrt(np.mean(distances[distances >= 0.0] ** 2))) or float(distances.std())
    # Values that agree to the last digits give a unit that rounding made.
    return Warp(centre, unit * largest if unit > 1e-12 else 1.0)
