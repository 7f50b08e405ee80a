"""Conversion of columns and tensors to NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def choose(count: int, maximum: int, rng: np.random.Generator) -> NDArray[np.int_]:
    """Return ascending indices: all ``count``, or a random choice of ``maximum`` of them."""
    if count <= maximum:
        return np.arange(count)
    return np.sort(rng.choice(count, maximum, replace=False))


def is_tensor(value: Any) -> bool:
    """Whether a value is a torch tensor, without importing torch."""
    return hasattr(value, "detach") and hasattr(value, "cpu")


def as_array(value: Any) -> NDArray[Any]:
    """Convert an array-like or a tensor on any device."""
    if is_tensor(value):
        value = value.detach().cpu()
        # NumPy has no bfloat16.
        value = value.float() if value.is_floating_point() else value
        return value.numpy()
    return np.asarray(value)


def as_numbers(values: NDArray[Any]) -> tuple[Array, bool]:
    """Convert a column to numbers.

    Args:
        values: `n`, of any type.

    Returns:
        `n`, codes from 0 for categories, NaN where missing; and whether they are categories.
    """
    if values.dtype.kind in "biuf":
        return values.astype(float), values.dtype.kind == "b"
    if values.dtype.kind in "mM":
        return np.where(np.isnat(values), np.nan, values.astype("int64").astype(float)), False
    missing = np.array([_is_missing(value) for value in values], bool)
    numbers = np.full(len(values), np.nan)
    try:
        numbers[~missing] = values[~missing].astype(float)
    except (TypeError, ValueError):
        codes = np.unique([str(value) for value in values[~missing]], return_inverse=True)[1]
        numbers[~missing] = codes
        return numbers, True
    return numbers, any(isinstance(value, bool | np.bool_) for value in values[~missing])


def _is_missing(value: Any) -> bool:
    if value is None or isinstance(value, str):
        return value is None or not value.strip()
    try:
        # True for NaN and NaT of pandas; its NA raises, because it has no truth value.
        return bool(value != value)
    except (TypeError, ValueError):
        return True
