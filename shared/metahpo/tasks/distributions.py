"""One hyperparameter: its distribution, and its values as positions in [0, 1].

A position is where a value lies between the bounds, on the distribution's own scale; NaN where
there is none. Levels are the values of a discrete distribution, choices those of a categorical
one; each has an equal part of [0, 1], and its position is the middle of that.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from decimal import Decimal
from functools import lru_cache
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from metahpo.tasks.choices import ChoiceIndex, in_json

Array: TypeAlias = NDArray[np.float64]


class SpaceError(ValueError):
    """A search space or a configuration that breaks a rule; the message states both."""


# How Optuna before 3.0 wrote distributions; its own reader of them warns of its removal.
_FORMER_DISTRIBUTIONS = {
    "UniformDistribution": lambda a: FloatDistribution(a["low"], a["high"]),
    "LogUniformDistribution": lambda a: FloatDistribution(a["low"], a["high"], log=True),
    "DiscreteUniformDistribution": lambda a: FloatDistribution(a["low"], a["high"], step=a["q"]),
    "IntUniformDistribution": lambda a: IntDistribution(a["low"], a["high"], step=a["step"]),
    "IntLogUniformDistribution": lambda a: IntDistribution(a["low"], a["high"], log=True),
}


@lru_cache(maxsize=4096)
def parse_distribution(text: str) -> BaseDistribution:
    """The distribution that Optuna's JSON text describes, in the classes of today.

    Equal texts give the same object: histories repeat a few distributions many times.

    Args:
        text: What ``optuna.distributions.distribution_to_json`` wrote, in any version.

    Raises:
        SpaceError: For a text that is no distribution, and for one that cannot be searched
            (``check_distribution``).
    """
    try:
        record = json.loads(text)
        former = _FORMER_DISTRIBUTIONS.get(record.get("name"))
        with warnings.catch_warnings():
            # Optuna warns of choices that are lists; whoever made the study has been told.
            warnings.simplefilter("ignore", UserWarning)
            distribution = former(record["attributes"]) if former else json_to_distribution(text)
    # ArithmeticError: the bounds and steps are compared as decimal numbers.
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise SpaceError(_not_a_distribution(text, repr(error))) from error
    except RecursionError as error:
        raise SpaceError(_not_a_distribution(text, "it is nested too deep")) from error
    try:
        check_distribution(distribution)
    except SpaceError as error:
        raise SpaceError(_not_a_distribution(text, error)) from error
    return distribution


def _not_a_distribution(text: Any, why: Exception | str) -> str:
    return (
        f"not the JSON text of a distribution that can be searched: {why!s:.200} ({text!r:.200})"
    )


# The width of a range of such bounds, and of the union of two, is still finite.
LARGEST_BOUND = 1e300
# Integers of NumPy.
LARGEST_INTEGER = 2**63 - 1
# Levels between the bounds of numbers with a step; as many integers are exact as floats.
_MOST_LEVELS = 2**53
# Levels of lists within a choice.
_NESTING = 8


def check_distribution(distribution: BaseDistribution) -> None:
    """Check that a distribution can be searched: Optuna's own classes accept nearly everything.

    Raises:
        SpaceError: For a class that is none of Float, Int and Categorical; bounds that are
            infinite, beyond ``LARGEST_BOUND`` or ``LARGEST_INTEGER`` or no numbers; a step that is
            not positive or too small to count its levels; and a choice nested too deep.
    """
    match distribution:
        case CategoricalDistribution():
            for choice in distribution.choices:
                _check_choice(choice, _NESTING)
        case FloatDistribution() | IntDistribution():
            _check_range(distribution)
        case _:
            raise SpaceError(f"unknown distribution {distribution!r:.200}")


def _check_range(distribution: FloatDistribution | IntDistribution) -> None:
    low, high, step = distribution.low, distribution.high, distribution.step
    is_integer = isinstance(distribution, IntDistribution)
    largest = LARGEST_INTEGER if is_integer else LARGEST_BOUND
    for number in (low, high, *([] if step is None else [step])):
        if not is_number(number) or not abs(number) <= largest:
            raise SpaceError(f"bounds and steps must be finite numbers, got {number!r:.50}")
        if is_integer and not isinstance(number, int):
            raise SpaceError(f"whole numbers expected, got {number!r:.50}")
    if not isinstance(distribution.log, bool):
        raise SpaceError(f"log must be true or false, got {distribution.log!r:.50}")
    if step is not None and step <= 0:
        raise SpaceError(f"a step must be a positive number, got {step!r}")
    if step is not None and not is_integer and (high - low) / step > _MOST_LEVELS:
        raise SpaceError(f"the step {step!r} is too small for the bounds")


def _check_choice(choice: Any, levels: int) -> None:
    if isinstance(choice, list | tuple | dict):
        if not levels:
            raise SpaceError(f"a choice is nested more than {_NESTING} times")
        for part in choice.values() if isinstance(choice, dict) else choice:
            _check_choice(part, levels - 1)
    elif isinstance(choice, int) and abs(choice) > sys.float_info.max:
        # Optuna compares choices as floats.
        raise SpaceError("a choice is too large for a float")


def distribution_text(distribution: BaseDistribution) -> str:
    """Optuna's JSON text of a distribution.

    Raises:
        TypeError: For choices that JSON cannot hold; NumPy's scalars become numbers.
    """
    try:
        return distribution_to_json(distribution)
    except TypeError:
        record = {"name": type(distribution).__name__, "attributes": distribution._asdict()}
        return json.dumps(record, default=in_json)


# ---- positions -----------------------------------------------------------------------------

# Stands for a value that a configuration does not have.
MISSING = object()


def levels_of(distribution: BaseDistribution) -> int:
    """The number of values; 0 for a continuous distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return (distribution.high - distribution.low) // distribution.step + 1
    assert isinstance(distribution, FloatDistribution)
    if distribution.step is not None:
        return round((distribution.high - distribution.low) / distribution.step) + 1
    return 1 if distribution.single() else 0


def is_number(value: Any) -> bool:
    """Whether a value is a number in the sense of the field: True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def encode_numbers(values: list[Any], distribution: BaseDistribution) -> Array:
    """Positions of values, ``MISSING`` among them; NaN for what has no place.

    A value beyond the bounds lies outside [0, 1].
    """
    return _encode_numbers(_as_numbers(values), distribution)


def encode_choices(values: list[Any], choices: ChoiceIndex, count: int) -> Array:
    """Positions of values among ``count`` choices, ``MISSING`` among them; NaN for no choice."""
    indices = [math.nan if value is MISSING else choices(value) for value in values]
    return (np.array(indices, float) + 0.5) / count


def _as_numbers(values: list[Any]) -> Array:
    """n, NaN for what is no number."""
    return np.array([_as_number(value) for value in values], float)


def _as_number(value: Any) -> float:
    # Most values are floats, and a look at the exact class is the cheapest test there is.
    if value.__class__ is float:
        return value
    if not isinstance(value, Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _scale(distribution: FloatDistribution | IntDistribution) -> tuple[float, float, bool]:
    """The natural-scale numbers that lie at 0 and at 1, and whether the scale is logarithmic.

    A hyperparameter with steps gets half a step more at either end, so that all its values
    own equal shares of the unit interval.
    """
    if isinstance(distribution, IntDistribution) or distribution.step is not None:
        half = (distribution.step or 1) / 2
        low, high = distribution.low - half, distribution.high + half
    else:
        low, high = distribution.low, distribution.high
    return low, high, distribution.log


def _encode_numbers(values: Array, distribution: BaseDistribution) -> Array:
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, log = _scale(distribution)
    if log:
        positive = np.where(values > 0, values, math.nan)
        values, low, high = np.log(positive), math.log(low), math.log(high)
    # An infinite value has no place either.
    values = np.where(np.isfinite(values), values, math.nan)
    if high == low:
        # A single value lies in the middle.
        return np.where(np.isnan(values), math.nan, 0.5)
    # A value far beyond narrow bounds is infinitely far outside.
    with np.errstate(over="ignore"):
        return (values - low) / (high - low)


def decode_column(positions: Array, distribution: BaseDistribution) -> list[Any]:
    """The values at positions in [0, 1] without NaN."""
    if isinstance(distribution, CategoricalDistribution):
        return [distribution.choices[i] for i in level_indices(positions, distribution)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(distribution, IntDistribution):
        last = levels_of(distribution) - 1
        # In Python's integers, which are exact where those of floats are not.
        steps = [min(int(i), last) for i in level_indices(positions, distribution)]
        return [distribution.low + step * distribution.step for step in steps]
    if distribution.step is not None:
        # 0.1 + 2 * 0.1 leaves 0.30000000000000004 where 0.3 is meant.
        decimals = max(_decimals(distribution.step), _decimals(distribution.low))
        indices = level_indices(positions, distribution)
        values = [round(v, decimals) for v in _values_of_levels(indices, distribution).tolist()]
    else:
        values = _natural(positions, distribution).tolist()
    return [min(max(value, distribution.low), distribution.high) for value in values]


def _natural(positions: Array, distribution: FloatDistribution | IntDistribution) -> Array:
    """Positions on the natural scale, not yet rounded to levels."""
    low, high, log = _scale(distribution)
    if log:
        return np.exp(math.log(low) + positions * (math.log(high) - math.log(low)))
    return low + positions * (high - low)


def level_indices(positions: Array, distribution: BaseDistribution) -> Array:
    """Whole numbers from 0: the level on whose share of the unit interval each position lies."""
    last = levels_of(distribution) - 1
    if isinstance(distribution, CategoricalDistribution):
        return np.clip(np.floor(positions * (last + 1)), 0, last).astype(int)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    steps = (_natural(positions, distribution) - distribution.low) / (distribution.step or 1)
    return np.clip(np.rint(steps), 0, last)


def _values_of_levels(
    indices: NDArray[Any], distribution: FloatDistribution | IntDistribution
) -> Array:
    return distribution.low + np.asarray(indices, float) * (distribution.step or 1)


def positions_of_levels(indices: NDArray[Any], distribution: BaseDistribution) -> Array:
    """The middles of levels."""
    if isinstance(distribution, CategoricalDistribution):
        return (indices + 0.5) / len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return _encode_numbers(_values_of_levels(indices, distribution), distribution)


def _decimals(number: float) -> int:
    """Digits after the point in the shortest text of a number."""
    exponent = Decimal(str(number)).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
