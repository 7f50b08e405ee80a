"""A bounded sample of a data set, whatever holds it, as arrays.

Everything that the features of a data set are computed from passes through here: NumPy arrays,
pandas and Arrow tables, SciPy's sparse matrices, torch tensors, data sets and loaders, lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Rows, columns and single items (of a torch data set, which may decode a file for each) that
# are looked at: what bounds the time.
MAXIMUM_ROWS = 5000
MAXIMUM_COLUMNS = 200
MAXIMUM_ITEMS = 512
# Whole numbers with more distinct values than this, and than this share of the rows, are a
# quantity and no classes.
MAXIMUM_CLASSES = 1000
CLASS_SHARE = 0.2
# Where a torch data set whose items are mappings keeps inputs and target.
INPUT_KEYS = ("input_ids", "pixel_values", "image", "inputs", "features", "x", "X")
TARGET_KEYS = ("labels", "label", "target", "targets", "y")


@dataclass(frozen=True, eq=False)
class Sample:
    """What is known of a data set.

    Attributes:
        X: n x p, categories as whole numbers from 0, NaN where a value is missing. For images
            the flattened pixels; without columns for sequences.
        categorical: p.
        y: n, classes as whole numbers from 0, or the target; NaN where missing, None without.
        regression: Whether y is a quantity.
        rows: How many there are beyond the sample; NaN where not known.
        columns: How many there are beyond the sample.
        class_counts: Rows of each class, of all rows where they are known.
        image: Channels, height and width.
        sequences: Token ids, one array a row.
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
    """A sample of a data set.

    Args:
        X: n x p NumPy array, pandas or Arrow table, SciPy sparse matrix or torch tensor; images
            as n x height x width, n x channels x height x width or with the channels last; a
            list of token sequences or of texts; or a torch ``Dataset`` or ``DataLoader`` of
            such items, with or without targets.
        y: n classes or numbers; None for none, or where the items of ``X`` hold them.
        regression: Whether the target is a quantity; None to tell by its values.
        seed: Of the choice of rows and columns.

    Raises:
        TypeError: For an ``X`` that is none of these.
        ValueError: Where ``X`` and ``y`` differ in length.
    """
    rng = np.random.default_rng(seed)
    if _is_torch_data(X):
        X, y, total = _items(X, y, rng)
    else:
        total = _length(X)
    if y is not None and len(y) != _length(X):
        raise ValueError(f"X has {_length(X)} rows and y has {len(y)}")
    target, is_quantity = _target(y, regression)
    counts = np.empty(0, int)
    if target is not None and not is_quantity:
        counts = np.unique(target[~np.isnan(target)], return_counts=True)[1]
    rows = _choice(_length(X), MAXIMUM_ROWS, rng)
    inputs = _inputs(X, rows, rng)
    return Sample(
        **inputs,
        y=None if target is None else target[rows],
        regression=is_quantity,
        rows=float(total),
        class_counts=counts,
    )


def _choice(count: int, maximum: int, rng: np.random.Generator) -> NDArray[np.int_]:
    """Indices in ascending order: all of them, or as many as are allowed."""
    if count <= maximum:
        return np.arange(count)
    return np.sort(rng.choice(count, maximum, replace=False))


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


# ---- inputs --------------------------------------------------------------------------------


def _inputs(X: Any, rows: NDArray[np.int_], rng: np.random.Generator) -> dict[str, Any]:
    """The fields of a Sample that describe the inputs."""
    if scipy.sparse.issparse(X):
        chosen = _choice(X.shape[1], MAXIMUM_COLUMNS, rng)
        dense = X.tocsr()[rows][:, chosen].toarray().astype(float)
        return _table(dense, np.zeros(len(chosen), bool), X.shape[1])
    if hasattr(X, "column_names") or hasattr(X, "columns"):
        return _frame(X, rows, rng)
    if isinstance(X, Sequence):
        return _listed([X[row] for row in rows], rng)
    is_tensor = _is_tensor(X)
    array = _as_array(X[rows] if not is_tensor else X[list(rows)])
    if is_tensor and array.ndim == 2 and array.dtype.kind in "iu":
        return _tokens(list(array))
    return _from_array(array, rng)


def _from_array(array: NDArray[Any], rng: np.random.Generator) -> dict[str, Any]:
    if array.ndim in (3, 4) and array.dtype.kind in "biuf":
        return _images(array, rng)
    flat = array.reshape(len(array), int(np.prod(array.shape[1:])))
    chosen = _choice(flat.shape[1], MAXIMUM_COLUMNS, rng)
    columns = [_column(flat[:, index]) for index in chosen]
    return _from_columns(columns, len(flat), flat.shape[1])


def _frame(X: Any, rows: NDArray[np.int_], rng: np.random.Generator) -> dict[str, Any]:
    """A pandas or an Arrow table."""
    is_arrow = hasattr(X, "column_names")
    sampled = X.take(rows) if is_arrow else X.iloc[rows]
    count = X.shape[1]
    chosen = _choice(count, MAXIMUM_COLUMNS, rng)
    columns = []
    for index in chosen:
        series = sampled.column(int(index)) if is_arrow else sampled.iloc[:, int(index)]
        if hasattr(getattr(series, "dtype", None), "categories"):
            series = series.astype(object)
        columns.append(_column(np.asarray(series)))
    return _from_columns(columns, len(rows), count)


def _from_columns(columns: Sequence[tuple[Array, bool]], rows: int, count: int) -> dict[str, Any]:
    values = np.stack([c for c, _ in columns], axis=1) if columns else np.empty((rows, 0))
    return _table(values, np.array([categorical for _, categorical in columns], bool), count)


def _table(values: Array, categorical: NDArray[np.bool_], columns: int) -> dict[str, Any]:
    finite = np.where(np.isfinite(values), values, np.nan)
    return {"X": finite, "categorical": categorical, "columns": float(columns)}


def _column(values: NDArray[Any]) -> tuple[Array, bool]:
    """A column as numbers, and whether they stand for categories."""
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
        # NaN, pandas' NaT; its NA is neither true nor false.
        return bool(value != value)
    except (TypeError, ValueError):
        return True


def _images(array: NDArray[Any], rng: np.random.Generator) -> dict[str, Any]:
    if array.ndim == 3:
        shape = (1, array.shape[1], array.shape[2])
    elif array.shape[-1] in (1, 3, 4) and array.shape[1] not in (1, 3, 4):
        shape = (array.shape[3], array.shape[1], array.shape[2])
    else:
        shape = array.shape[1:]
    flat = array.reshape(len(array), int(np.prod(array.shape[1:])))
    chosen = _choice(flat.shape[1], MAXIMUM_COLUMNS, rng)
    table = _table(flat[:, chosen].astype(float), np.zeros(len(chosen), bool), flat.shape[1])
    return {**table, "image": shape}


def _listed(items: list[Any], rng: np.random.Generator) -> dict[str, Any]:
    """Texts, token sequences, rows or images, one an item."""
    if items and all(isinstance(item, str) for item in items):
        words = [item.split() for item in items]
        known = {word: code for code, word in enumerate(sorted({w for ws in words for w in ws}))}
        return _tokens([np.array([known[word] for word in ws], int) for ws in words])
    arrays = [_as_array(item) for item in items]
    # Of unequal lengths, or as torch hands tokens out: whole numbers of 64 bits.
    ragged = len({array.shape for array in arrays}) > 1
    whole = all(array.ndim == 1 and array.dtype.kind in "iu" for array in arrays)
    if arrays and whole and (ragged or all(_is_tensor(item) for item in items)):
        return _tokens(arrays)
    if ragged:
        sizes = {array.shape[1:] if array.ndim == 1 else array.shape for array in arrays}
        smallest = min(sizes, key=lambda shape: int(np.prod(shape)))
        return {**_table(np.empty((len(items), 0)), np.empty(0, bool), int(np.prod(smallest)))}
    return _from_array(np.stack(arrays) if arrays else np.empty((0, 0)), rng)


def _tokens(sequences: list[NDArray[Any]]) -> dict[str, Any]:
    table = _table(np.empty((len(sequences), 0)), np.empty(0, bool), 0)
    return {**table, "columns": np.nan, "sequences": tuple(s.astype(int) for s in sequences)}


# ---- targets -------------------------------------------------------------------------------


def _target(y: Any, regression: bool | None) -> tuple[Array | None, bool]:
    """The target as numbers, and whether it is a quantity."""
    if y is None:
        return None, False
    series = y.astype(object) if hasattr(getattr(y, "dtype", None), "categories") else y
    array = _as_array(series)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        # Several targets a row: no classes, and no one quantity.
        return None, False
    values, categorical = _column(array)
    values = np.where(np.isfinite(values), values, np.nan)
    known = values[~np.isnan(values)]
    distinct = np.unique(known)
    if regression is None:
        most = max(2.0, min(MAXIMUM_CLASSES, CLASS_SHARE * len(known)))
        whole = bool((distinct == np.rint(distinct)).all())
        regression = not categorical and not (whole and len(distinct) <= most)
    if regression:
        return values, True
    codes = np.searchsorted(distinct, values).astype(float)
    return np.where(np.isnan(values), np.nan, codes), False


# ---- torch ---------------------------------------------------------------------------------


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "cpu")


def _as_array(value: Any) -> NDArray[Any]:
    if _is_tensor(value):
        value = value.detach().cpu()
        # NumPy has no bfloat16.
        value = value.float() if value.is_floating_point() else value
        return value.numpy()
    return np.asarray(value)


def _is_torch_data(X: Any) -> bool:
    from torch.utils.data import DataLoader, Dataset

    return isinstance(X, Dataset | DataLoader)


def _items(
    data: Any, y: Any, rng: np.random.Generator
) -> tuple[list[Any], Sequence[Any] | None, float]:
    """Inputs and targets of some items of a torch data set, and how many items it has."""
    source = data.dataset if hasattr(data, "dataset") and hasattr(data, "batch_size") else data
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        indices = _choice(len(source), MAXIMUM_ITEMS, rng)
        items: Iterable[Any] = (source[int(index)] for index in indices)
        total = float(len(source))
        y = None if y is None else [y[int(index)] for index in indices]
    else:
        items, total = islice(iter(source), MAXIMUM_ITEMS), np.nan
    pairs = [_pair(item) for item in items]
    inputs = [x for x, _ in pairs]
    if y is None and pairs and all(_is_scalar(target) for _, target in pairs):
        y = [_as_array(target).reshape(-1)[0] for _, target in pairs]
    return inputs, y, total


def _pair(item: Any) -> tuple[Any, Any]:
    """An item's input and target, None where it has none."""
    if isinstance(item, Mapping):
        found = (next((item[k] for k in keys if k in item), None) for keys in _KEYS)
        x, target = found
        return x, target
    if isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1]
    if isinstance(item, tuple | list) and len(item) == 1:
        return item[0], None
    return item, None


_KEYS = (INPUT_KEYS, TARGET_KEYS)


def _is_scalar(target: Any) -> bool:
    return target is not None and (isinstance(target, str) or _as_array(target).size == 1)
