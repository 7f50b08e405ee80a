"""Distributions and their values as sources store them, checked: whatever they claim is possible.

Optuna's own classes accept infinite bounds and steps so small that no level can be counted.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from metahpo.archive.limits import check_depth, parse_json
from metahpo.archive.shown import reason_of
from metahpo.tasks.distributions import SpaceError, levels_of, parse_distribution

# The width of a range of such bounds, and of the union of two, is still finite.
LARGEST_BOUND = 1e300
# Beyond this, neighbouring levels are the same float.
MOST_LEVELS = 2**64


@lru_cache(maxsize=4096)
def stored_distribution(text: str) -> BaseDistribution:
    """Return the distribution that a JSON text of Optuna's describes.

    Equal texts give the same object: histories repeat a few distributions many times.

    Args:
        text: What ``optuna.distributions.distribution_to_json`` wrote, in any version.

    Raises:
        SpaceError: For a text that is no distribution, and for one with bounds, steps or choices
            that cannot be searched.
    """
    try:
        distribution = _parsed(text, parse_json(text))
        check_distribution(distribution)
    except SpaceError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise SpaceError(f"not a distribution that can be searched: {reason_of(error)}") from None
    return distribution


def _parsed(text: str, record: Any) -> BaseDistribution:
    choices = record["attributes"].get("choices", ()) if isinstance(record, dict) else ()
    if not any(isinstance(choice, list | dict) for choice in choices):
        return parse_distribution(text)
    with warnings.catch_warnings():
        # Optuna warns of such choices; whoever made the study has been told.
        warnings.simplefilter("ignore", UserWarning)
        return parse_distribution(text)


def check_distribution(distribution: BaseDistribution) -> None:
    """Raise SpaceError for a distribution that cannot be searched.

    That is one with bounds that are infinite or beyond ``LARGEST_BOUND``, with a step that is not
    positive or leaves more than ``MOST_LEVELS`` levels, and one with choices nested too deep.
    """
    if isinstance(distribution, CategoricalDistribution):
        check_depth(list(distribution.choices))
        return
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise SpaceError(f"unknown distribution {distribution!r}")
    for bound in (distribution.low, distribution.high):
        if not _is_number(bound) or not abs(bound) <= LARGEST_BOUND:
            raise SpaceError(f"bounds must be finite numbers, got {bound!r}")
    if isinstance(distribution, IntDistribution):
        for number in (distribution.low, distribution.high, distribution.step):
            if not isinstance(number, int):
                raise SpaceError(f"whole numbers expected, got {number!r}")
    if distribution.step is not None and not (
        _is_number(distribution.step) and 0 < distribution.step <= LARGEST_BOUND
    ):
        raise SpaceError(f"a step must be a positive number, got {distribution.step!r}")
    if levels_of(distribution) > MOST_LEVELS:
        raise SpaceError(f"more than {MOST_LEVELS} levels")


def external_value(distribution: BaseDistribution, internal: Any) -> Any:
    """Return a stored value as the objective saw it.

    Args:
        distribution: Of the value.
        internal: As databases store it: the number, or the index of the choice.

    Raises:
        ValueError: For what is no finite number, and no index of a choice. Numbers outside the
            bounds are fine: Optuna takes them where a user enqueues them.
    """
    if internal.__class__ is not float and not _is_number(internal):
        raise ValueError(f"the parameter {internal!r} is no number")
    if isinstance(distribution, CategoricalDistribution):
        choices = distribution.choices
        if not 0 <= internal < len(choices) or internal != int(internal):
            raise ValueError(f"there is no choice {internal!r} among {len(choices)}")
        return choices[int(internal)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if not abs(internal) <= LARGEST_BOUND:
        raise ValueError(f"the parameter {internal!r} is not finite")
    return distribution.to_external_repr(internal)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
