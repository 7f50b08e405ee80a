"""Values of different tasks on one scale.

A task's values are its own: their location, their unit, and how far the failures lie below.
Models see scores instead, which a warp makes of values y:

    z = (y - centre) / unit
    s = z where z >= -knee, and -knee - k log(1 - (z + knee) / k) below, with k = COMPRESSION

Above the knee scores are linear, so that improvements keep their proportions; below it they are
compressed, because by how much a bad configuration is bad tells little about where the good ones
are. The compression follows the idea of Vizier's half-rank warping (Song et al. 2024, "The
Vizier Gaussian process bandit algorithm"), with the difference that it is a smooth function
whose parameters can be fitted and whose density is known.

Past tasks, which are compared with each other, are compressed below their median. A model that
is fitted to the present task alone keeps its values as they are, but for outliers: where half of
the space is a plateau, magnifying the plateau's ripples hides the slope that leads out of it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

from metahpo.tasks.space import Array

COMPRESSION = 1.0
# Differences of this share of the values themselves may be rounding.
ROUNDING = 1e-12
# Tukey's outer fence, in interquartile ranges below the lower quartile: outliers lie beyond it.
FENCE = 3.0


class Warp(NamedTuple):
    """Values to scores.

    Attributes:
        centre: The value of score 0.
        unit: Values a score of 1 lies above it; positive.
        knee: The score, with its sign turned, below which scores are compressed.
    """

    centre: float
    unit: float
    knee: float = 0.0

    def scores(self, values: Array) -> Array:
        """``n`` scores of ``n`` values."""
        return compressed((values - self.centre) / self.unit, self.knee)

    def values(self, scores: Array) -> Array:
        """``n`` values of ``n`` scores."""
        below = -self.knee - COMPRESSION * np.expm1(self._short(scores) / COMPRESSION)
        return self.centre + self.unit * np.where(scores < -self.knee, below, scores)

    def moments(self, mean: Array, deviation: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of values, from those of ``n`` scores.

        The deviation is half the distance between the values one deviation above and below.
        """
        low, high = self.values(mean - deviation), self.values(mean + deviation)
        return self.values(mean), (high - low) / 2.0

    def log_slopes(self, values: Array) -> Array:
        """``n`` logarithms of d scores / d values: they carry densities back to values."""
        z = (values - self.centre) / self.unit
        return -np.log1p(self._short(z) / COMPRESSION) - math.log(self.unit)

    def _short(self, z: Array) -> Array:
        """How far each z lies below the knee; 0 above it."""
        return np.maximum(-self.knee - z, 0.0)


@overload
def compressed(z: Array, knee: float) -> Array: ...


@overload
def compressed(z: Tensor, knee: float) -> Tensor: ...


def compressed(z: Array | Tensor, knee: float) -> Array | Tensor:
    """The one formula of scores, for arrays and tensors: linear above the knee, logarithmic below.

    Args:
        z: Values in units of the scale, from its centre.
        knee: The score, with its sign turned, below which scores are compressed.
    """
    library: Any = torch if isinstance(z, Tensor) else np
    short = (-knee - z).clip(0.0) / COMPRESSION
    return library.where(z < -knee, -knee - COMPRESSION * library.log1p(short), z)


def tells_unit(values: Array) -> bool:
    """Whether the values of one task differ by more than rounding, so that they have a unit.

    Args:
        values: ``n`` finite values, n at least 0.
    """
    return bool(have_units(_tensor(values)))


def have_units(values: Tensor) -> Tensor:
    """Whether the values of each task differ by more than rounding.

    Args:
        values: ``batch_shape x n``, n at least 0; NaN where a task has fewer.

    Returns:
        ``batch_shape``.
    """
    if values.shape[-1] < 2:
        return torch.zeros(values.shape[:-1], dtype=torch.bool, device=values.device)
    known = ~values.isnan()
    low = torch.where(known, values, torch.inf).amin(-1)
    high = torch.where(known, values, -torch.inf).amax(-1)
    return high - low > ROUNDING * torch.maximum(low.abs(), high.abs())


def standardising_warp(values: Array) -> Warp:
    """Mean 0 and variance 1, but for low outliers, which are compressed.

    Args:
        values: n finite values.

    Returns:
        Centre and unit are the mean and the standard deviation of the values, those beyond
        Tukey's outer fence (Tukey 1977) counted as if they lay on it; there is the knee. The
        unit of values that tell none is 1.
    """
    if not tells_unit(values):
        return Warp(float(values.mean()), 1.0)
    lower, upper = np.quantile(values, [0.25, 0.75])
    within = upper - lower > ROUNDING * max(abs(lower), abs(upper))
    fence = float(lower - FENCE * (upper - lower)) if within else -np.inf
    fenced = np.maximum(values, fence)
    centre, unit = float(fenced.mean()), float(fenced.std())
    knee = (centre - fence) / unit if values.min() < fence else math.inf
    return Warp(centre, unit, knee)


def own_warp(values: Array) -> Warp:
    """The warp that makes a task's values comparable with those of other tasks.

    Args:
        values: ``n`` finite values, n at least 1.

    Returns:
        Centre and unit of ``own_units``, compressed below the centre.
    """
    centre, unit = own_units(_tensor(values))
    return Warp(float(centre), float(unit))


def own_units(values: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and unit of tasks by their own values alone.

    Args:
        values: ``batch_shape x n``, n at least 1; NaN where a task has fewer.

    Returns:
        ``batch_shape`` each, float64: the median, and the root mean square distance of the upper
        half to it (the standard deviation where that is nothing; 1 where all values agree).
    """
    values = values.double()
    centre = values.nanquantile(0.5, dim=-1, keepdim=True)
    is_upper = values >= centre
    upper = _root_mean_square(torch.where(is_upper, values - centre, torch.nan))
    spread = _root_mean_square(values - values.nanmean(-1, keepdim=True))
    # In the measure of the upper half: how far a failure lies below says nothing about it.
    largest = torch.where(is_upper, values.abs(), 0.0).amax(-1)
    unit = torch.where(upper > ROUNDING * largest, upper, spread)
    return centre.squeeze(-1), torch.where(have_units(values), unit, 1.0)


def _root_mean_square(differences: Tensor) -> Tensor:
    """``batch_shape``, of ``batch_shape x n`` differences without those that are NaN."""
    largest = differences.abs().nan_to_num(0.0).amax(-1, keepdim=True)
    # A power of two, which changes no digit; squares of tiny differences would be 0.
    power = torch.where(largest > 0.0, largest / largest.frexp().mantissa, 1.0)
    return (differences / power).square().nanmean(-1).sqrt() * power.squeeze(-1)


def _tensor(values: Array) -> Tensor:
    # Tensors have no negative strides, which a reversed array has.
    return torch.from_numpy(np.ascontiguousarray(values, dtype=float))
