"""Central prediction intervals, and the share of observed values that they contain."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

# Nominal levels at which coverage is measured.
INTERVALS = (0.5, 0.8, 0.95)
COVERAGE_COLUMNS = tuple(f"covered_{level}" for level in INTERVALS)


def coverage(cdf_values: Tensor) -> tuple[float, ...]:
    """Return the share of observed values inside each of the ``INTERVALS``.

    Args:
        cdf_values: The predictive distribution functions at the observed values, any shape.
    """
    distance = (cdf_values - 0.5).abs()
    return tuple(float((distance <= level / 2).float().mean()) for level in INTERVALS)


def mean_coverage(coverages: Sequence[Sequence[float]]) -> dict[str, str]:
    """Return the mean coverage over several measurements as log entries, one per interval."""
    means = [math.fsum(shares) / len(shares) for shares in zip(*coverages, strict=True)]
    return {column: f"{mean:.4f}" for column, mean in zip(COVERAGE_COLUMNS, means, strict=True)}
