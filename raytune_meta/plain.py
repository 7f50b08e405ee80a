"""Numbers of any library as plain Python: what users and Ray pass comes in through here.

The state of a sweep is JSON, which knows Python's own numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from raytune_meta._ray import Categorical, Domain, Float, Integer, Normal, Quantized

Scalar = type(None) | bool | int | float | str
_LOW_PRECISION = {"float16": np.float16, "float32": np.float32}


class Distribution(Domain):
    """One of Optuna's distributions as a domain of Ray's, so that Ray does not take it out.

    Args:
        distribution: A numerical one.
    """

    def __init__(self, distribution: BaseDistribution) -> None:
        self.distribution = distribution


def plain(value: Any) -> Any:
    """Return a number or text of any library as Python's own; anything else as is.

    Numbers are those of NumPy's, ``Decimal``, ``Fraction`` and whatever else is a ``Real``, and
    arrays and tensors with a single element. Of a float of lower precision its shortest decimal
    form counts: ``np.float32(0.1)`` means 0.1, and 0.3 is then a multiple of it.
    """
    element = _only_element(value)
    try:
        match element:
            case bool() | int() | float() | str():
                return element
            case np.timedelta64():  # to NumPy, a kind of integer
                return value
            case Decimal() if element.as_tuple().exponent == 0:
                return int(element)
            case Integral():
                return int(element)
            case Fraction() if element.denominator == 1:
                return int(element)
            case Decimal() | Real():
                return float(element)
    except (ValueError, OverflowError):  # a NaN that signals, and what is beyond all floats
        return value
    return value


def _only_element(value: Any) -> Any:
    """Return the element of an array or tensor that has one; others as is."""
    shape, item = getattr(value, "shape", None), getattr(value, "item", None)
    if not isinstance(shape, tuple) or any(size != 1 for size in shape) or not callable(item):
        return value
    dtype = getattr(value, "dtype", None)
    # To NumPy, durations are a kind of integer.
    if isinstance(dtype, np.dtype) and dtype.kind in "mM":
        return value
    try:
        element = item()
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor without data
        return value
    low_precision = _LOW_PRECISION.get(str(dtype).removeprefix("torch."))
    if low_precision is not None and isinstance(element, float):
        return float(str(low_precision(element)))
    return element


def plain_tree(tree: Any) -> Any:
    """Return a copy of a search space in which containers, domains and scalars are plain.

    Dictionaries, lists and tuples of other classes become Python's own, Optuna's choices become
    Ray's, and its other distributions ``Distribution``. Functions and objects stay.
    """
    match tree:
        case Mapping():
            return {plain(key): plain_tree(value) for key, value in tree.items()}
        case list():
            return [plain_tree(item) for item in tree]
        case tuple():
            return tuple(plain_tree(item) for item in tree)
        case Categorical():
            new = copy(tree)
            new.categories = [plain_tree(choice) for choice in tree.categories]
            return new
        case CategoricalDistribution():
            return Categorical([plain_tree(choice) for choice in tree.choices]).uniform()
        case BaseDistribution():
            return Distribution(tree)
        case Float() | Integer():
            new = copy(tree)
            new.lower, new.upper = _bound(tree.lower), _bound(tree.upper)
            new.sampler = _plain_sampler(tree.sampler)
            return new
    # An array with dimensions is no number where any value may stand.
    return tree if getattr(tree, "shape", None) else plain(tree)


def _plain_sampler(sampler: Any) -> Any:
    if isinstance(sampler, Quantized):
        return Quantized(_plain_sampler(sampler.get_sampler()), _bound(sampler.q))
    if isinstance(sampler, Normal):
        return type(sampler)(_bound(sampler.mean), _bound(sampler.sd))
    return sampler


def _bound(value: Any) -> int | float:
    plain_value = plain(value)
    return plain_value if isinstance(plain_value, int) else float(plain_value)
