"""A bounded sample of a data set as arrays, from which all features of a data set are computed.

``containers`` reads arrays, tables and lists; ``torch_data`` reads torch data sets and loaders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metahpo.metafeatures.arrays import Array, as_array, as_numbers, choose
from metahpo.metafeatures.containers import read_inputs
from metahpo.metafeatures.torch_data import is_torch_data, read_items

# Rows read at most.
MAXIMUM_ROWS = 5000
# Integer targets with more distinct values than this number, or than this fraction of the rows,
# are a quantity rather than classes.
MAXIMUM_CLASSES = 1000
CLASS_FRACTION = 0.2


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample of a data set.

    Attributes:
        X: `n x p`, categories as integers from 0, NaN where missing. Flattened pixels for
            images; no columns for sequences.
        categorical: `p`, whether a column holds categories.
        y: `n`, classes as integers from 0 or a quantity, NaN where missing; None without.
        regression: Whether y is a quantity.
        rows: Number of rows of the whole data set; NaN if unknown.
        columns: Number of columns of the whole data set; NaN for sequences.
        class_counts: Rows per class, over all rows that were read.
        image: Channels, height and width of images.
        sequences: Token ids, one array per row.
    """

    X: Array
    categorical: NDArray[np.bool_]
    y: Array | None = None
    regression: bool = False
    rows: float = np.nan
    columns: float = np.nan
    class_counts: NDArray[np.int_] = field(default_factory=lambda: np.empty(0, int))
    image: tuple[int, int, int] | None = None
    sequences: tuple[NDArray[np.int_], ...] = ()


EMPTY = Sample(np.empty((0, 0)), np.empty(0, bool))


def draw(X: Any, y: Any = None, *, regression: bool | None = None, seed: int = 0) -> Sample:
    """Draw a sample of a data set.

    Args:
        X: `n x p` NumPy array, pandas or Arrow table, SciPy sparse matrix or torch tensor;
            images as `n x height x width`, `n x channels x height x width` or with the channels
            last; a list of token sequences or texts; or a torch ``Dataset`` or ``DataLoader``
            of such items, with or without targets.
        y: `n`, classes or numbers; None if there are none or the items of ``X`` hold them.
        regression: Whether the target is a quantity; None decides by its values.
        seed: Seed of the choice of rows and columns.

    Raises:
        TypeError: If ``X`` is none of these.
        ValueError: If ``X`` and ``y`` differ in length.
    """
    rng = np.random.default_rng(seed)
    if is_torch_data(X):
        X, y, total = read_items(X, y, rng)
    else:
        total = _length(X)
    if y is not None and len(y) != _length(X):
        raise ValueError(f"X has {_length(X)} rows and y has {len(y)}")
    target, is_quantity = _target(y, regression)
    counts = np.empty(0, int)
    if target is not None and not is_quantity:
        counts = np.unique(target[~np.isnan(target)], return_counts=True)[1]
    rows = choose(_length(X), MAXIMUM_ROWS, rng)
    inputs = read_inputs(X, rows, rng)
    return Sample(
        **inputs,
        y=None if target is None else target[rows],
        regression=is_quantity,
        rows=float(total),
        class_counts=counts,
    )


def _length(X: Any) -> int:
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape):
        return int(shape[0])
    if isinstance(X, Sequence) and not isinstance(X, str | bytes):
        return len(X)
    raise TypeError(
        "X must be an array, a table, a sparse matrix, a tensor, a torch Dataset or DataLoader, "
        f"or a list of sequences, got {type(X).__name__}"
    )


def _target(y: Any, regression: bool | None) -> tuple[Array | None, bool]:
    """The target as numbers, `n`, and whether it is a quantity."""
    if y is None:
        return None, False
    series = y.astype(object) if hasattr(getattr(y, "dtype", None), "categories") else y
    array = as_array(series)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        # Several targets per row are neither classes nor one quantity: treated as no target.
        return None, False
    values, categorical = as_numbers(array)
    values = np.where(np.isfinite(values), values, np.nan)
    distinct = np.unique(values[~np.isnan(values)])
    if regression is None:
        regression = not categorical and _is_quantity(values, distinct)
    if regression:
        return values, True
    codes = np.searchsorted(distinct, values).astype(float)
    return np.where(np.isnan(values), np.nan, codes), False


def _is_quantity(values: Array, distinct: Array) -> bool:
    """Whether numbers have decimals or too many distinct values to be classes."""
    most = max(2.0, min(MAXIMUM_CLASSES, CLASS_FRACTION * (~np.isnan(values)).sum()))
    is_integer = bool((distinct == np.rint(distinct)).all())
    return not (is_integer and len(distinct) <= most)
