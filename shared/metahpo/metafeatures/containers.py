"""Inputs of a data set as arrays, whatever holds them: arrays, tables, sparse matrices, lists.

Notation: n rows, p columns. Each function returns the fields of a ``Sample`` that describe its
inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from metahpo.metafeatures.arrays import Array, as_array, as_numbers, choose, is_tensor

# Columns read at most.
MAXIMUM_COLUMNS = 200


def read_inputs(X: Any, rows: NDArray[np.int_], rng: np.random.Generator) -> dict[str, Any]:
    """Read some rows of a data set.

    Args:
        X: An array, a table, a sparse matrix, a tensor or a list.
        rows: Indices of the rows.
        rng: Source of the choice of columns.
    """
    if scipy.sparse.issparse(X):
        chosen = choose(X.shape[1], MAXIMUM_COLUMNS, rng)
        dense = X.tocsr()[rows][:, chosen].toarray().astype(float)
        return _table(dense, np.zeros(len(chosen), bool), X.shape[1])
    if hasattr(X, "column_names") or hasattr(X, "columns"):
        return _from_frame(X, rows, rng)
    if isinstance(X, Sequence):
        return _from_list([X[row] for row in rows], rng)
    array = as_array(X[list(rows)] if is_tensor(X) else X[rows])
    if is_tensor(X) and array.ndim == 2 and array.dtype.kind in "iu":
        return _tokens(list(array))
    return _from_array(array, rng)


def _from_array(array: NDArray[Any], rng: np.random.Generator) -> dict[str, Any]:
    if array.ndim in (3, 4) and array.dtype.kind in "biuf":
        return _images(array, rng)
    flat = array.reshape(len(array), int(np.prod(array.shape[1:])))
    chosen = choose(flat.shape[1], MAXIMUM_COLUMNS, rng)
    columns = [as_numbers(flat[:, index]) for index in chosen]
    return _from_columns(columns, len(flat), flat.shape[1])


def _from_frame(X: Any, rows: NDArray[np.int_], rng: np.random.Generator) -> dict[str, Any]:
    """A pandas or Arrow table."""
    is_arrow = hasattr(X, "column_names")
    sampled = X.take(rows) if is_arrow else X.iloc[rows]
    count = X.shape[1]
    columns = []
    for index in choose(count, MAXIMUM_COLUMNS, rng):
        series = sampled.column(int(index)) if is_arrow else sampled.iloc[:, int(index)]
        if hasattr(getattr(series, "dtype", None), "categories"):
            series = series.astype(object)
        columns.append(as_numbers(np.asarray(series)))
    return _from_columns(columns, len(rows), count)


def _from_columns(columns: Sequence[tuple[Array, bool]], rows: int, count: int) -> dict[str, Any]:
    values = np.stack([c for c, _ in columns], axis=1) if columns else np.empty((rows, 0))
    return _table(values, np.array([categorical for _, categorical in columns], bool), count)


def _table(values: Array, categorical: NDArray[np.bool_], columns: int) -> dict[str, Any]:
    finite = np.where(np.isfinite(values), values, np.nan)
    return {"X": finite, "categorical": categorical, "columns": float(columns)}


def _images(array: NDArray[Any], rng: np.random.Generator) -> dict[str, Any]:
    """Images with their channels first, last, or not at all."""
    if array.ndim == 3:
        shape = (1, array.shape[1], array.shape[2])
    elif array.shape[-1] in (1, 3, 4) and array.shape[1] not in (1, 3, 4):
        shape = (array.shape[3], array.shape[1], array.shape[2])
    else:
        shape = array.shape[1:]
    flat = array.reshape(len(array), int(np.prod(array.shape[1:])))
    chosen = choose(flat.shape[1], MAXIMUM_COLUMNS, rng)
    table = _table(flat[:, chosen].astype(float), np.zeros(len(chosen), bool), flat.shape[1])
    return {**table, "image": shape}


def _from_list(items: list[Any], rng: np.random.Generator) -> dict[str, Any]:
    """Texts, token sequences, rows or images, one per item."""
    if items and all(isinstance(item, str) for item in items):
        words = [item.split() for item in items]
        codes = {word: code for code, word in enumerate(sorted({w for ws in words for w in ws}))}
        return _tokens([np.array([codes[word] for word in ws], int) for ws in words])
    arrays = [as_array(item) for item in items]
    is_ragged = len({array.shape for array in arrays}) > 1
    is_integer = all(array.ndim == 1 and array.dtype.kind in "iu" for array in arrays)
    # Integer vectors are token sequences if their lengths differ or they are torch tensors.
    if arrays and is_integer and (is_ragged or all(is_tensor(item) for item in items)):
        return _tokens(arrays)
    if is_ragged:
        sizes = {array.shape[1:] if array.ndim == 1 else array.shape for array in arrays}
        smallest = min(sizes, key=lambda shape: int(np.prod(shape)))
        return _table(np.empty((len(items), 0)), np.empty(0, bool), int(np.prod(smallest)))
    return _from_array(np.stack(arrays) if arrays else np.empty((0, 0)), rng)


def _tokens(sequences: list[NDArray[Any]]) -> dict[str, Any]:
    table = _table(np.empty((len(sequences), 0)), np.empty(0, bool), 0)
    return {**table, "columns": np.nan, "sequences": tuple(s.astype(int) for s in sequences)}
