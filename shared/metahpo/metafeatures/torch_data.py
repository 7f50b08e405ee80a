"""Items of torch data sets and data loaders as lists of inputs and targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from metahpo.metafeatures.arrays import as_array, choose

# Items read at most; each may decode a file.
MAXIMUM_ITEMS = 512
# Keys of the input and of the target in items that are mappings, in order of preference.
INPUT_KEYS = ("input_ids", "pixel_values", "image", "inputs", "features", "x", "X")
TARGET_KEYS = ("labels", "label", "target", "targets", "y")


def is_torch_data(X: Any) -> bool:
    """Whether X is a torch ``Dataset`` or ``DataLoader``."""
    from torch.utils.data import DataLoader, Dataset

    return isinstance(X, Dataset | DataLoader)


def read_items(
    data: Any, y: Any, rng: np.random.Generator
) -> tuple[list[Any], Sequence[Any] | None, float]:
    """Read a random choice of items, or the first ones of an iterable data set.

    Args:
        data: A ``Dataset`` or ``DataLoader``.
        y: Targets of all items; None takes those in the items.
        rng: Source of the choice.

    Returns:
        The inputs; their targets, None without; and the number of items, NaN if unknown.
    """
    source = data.dataset if hasattr(data, "dataset") and hasattr(data, "batch_size") else data
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        indices = choose(len(source), MAXIMUM_ITEMS, rng)
        items: Iterable[Any] = (source[int(index)] for index in indices)
        total = float(len(source))
        y = None if y is None else [y[int(index)] for index in indices]
    else:
        items, total = islice(iter(source), MAXIMUM_ITEMS), np.nan
    pairs = [_pair(item) for item in items]
    inputs = [x for x, _ in pairs]
    if y is None and pairs and all(_is_scalar(target) for _, target in pairs):
        y = [as_array(target).reshape(-1)[0] for _, target in pairs]
    return inputs, y, total


def _pair(item: Any) -> tuple[Any, Any]:
    """Input and target of an item, None if it has none."""
    if isinstance(item, Mapping):
        x, target = (
            next((item[key] for key in keys if key in item), None)
            for keys in (INPUT_KEYS, TARGET_KEYS)
        )
        return x, target
    if isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1]
    if isinstance(item, tuple | list) and len(item) == 1:
        return item[0], None
    return item, None


def _is_scalar(target: Any) -> bool:
    return target is not None and (isinstance(target, str) or as_array(target).size == 1)
