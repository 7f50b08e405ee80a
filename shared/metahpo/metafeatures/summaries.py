"""Summaries of arrays without their non-finite values; NaN if no values are left."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metahpo.metafeatures.arrays import Array


def summary(name: str, values: Array) -> dict[str, float]:
    """Return mean, unbiased deviation, minimum and maximum under names that start with ``name``.

    Args:
        name: First part of the names.
        values: Any number of values.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return {f"{name}_{part}": math.nan for part in ("mean", "sd", "min", "max")}
    return {
        f"{name}_mean": float(known.mean()),
        f"{name}_sd": float(known.std(ddof=1)) if len(known) > 1 else math.nan,
        f"{name}_min": float(known.min()),
        f"{name}_max": float(known.max()),
    }


def mean(values: Any) -> float:
    """Return the mean of the finite values."""
    values = np.asarray(values, float)
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def ratio(a: float, b: float) -> float:
    """Return a / b, NaN if b is 0."""
    return float(a / b) if b else math.nan


def entropy(frequencies: Array | NDArray[np.int_]) -> float:
    """Return the entropy of a distribution in bits.

    Args:
        frequencies: Counts or shares; need not sum to 1.
    """
    shares = frequencies[frequencies > 0] / frequencies.sum()
    return float(-(shares * np.log2(shares)).sum())
