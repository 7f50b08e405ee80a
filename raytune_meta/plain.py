"""Numbers of NumPy and others as plain Python: what users and Ray pass comes in through here.

The state of a sweep is JSON, which knows Python's own numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from raytune_meta._ray import Categorical, Domain, Float, Integer, Normal, Quantized

Scalar = type(None) | bool | int | float | str


class Distribution(Domain):
    """One of Optuna's distributions as a domain of Ray's, so that Ray does not take it out.

    Args:
        distribution: A numerical one.
    """

    def __init__(self, distribution: BaseDistribution) -> None:
        self.distribution = distribution


def plain(value: Any) -> Any:
    """Return a scalar of NumPy's, or an array without dimensions, as Python's; others as is."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    match value:
        case np.timedelta64():  # a kind of integer to NumPy
            return value
        case np.bool_():
            return bool(value)
        case np.integer():
            return int(value)
        case np.floating():
            return float(value)
        case np.str_():
            return str(value)
    return value


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
    return plain(tree)


def _plain_sampler(sampler: Any) -> Any:
    if isinstance(sampler, Quantized):
        return Quantized(_plain_sampler(sampler.get_sampler()), _bound(sampler.q))
    if isinstance(sampler, Normal):
        return type(sampler)(_bound(sampler.mean), _bound(sampler.sd))
    return sampler


def _bound(value: Any) -> int | float:
    """Return a number of any kind as Python's.

    Of a float of lower precision its shortest decimal form counts: ``np.float32(0.1)`` means 0.1,
    and 0.3 is then a multiple of it.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.floating):
        value = str(value)
    plain_value = plain(value)
    return plain_value if isinstance(plain_value, int) else float(plain_value)
