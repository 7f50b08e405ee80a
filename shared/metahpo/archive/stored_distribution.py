"""Distributions and their values as Optuna's storages keep them, checked."""

from __future__ import annotations

import math
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from metahpo.archive.limits import LONGEST_TEXT
from metahpo.tasks.distributions import LARGEST_BOUND, SpaceError, parse_distribution


def stored_distribution(text: str) -> BaseDistribution:
    """Return the distribution that a JSON text of somebody else's describes.

    Args:
        text: What ``optuna.distributions.distribution_to_json`` wrote, in any version.

    Raises:
        SpaceError: For a text that is not a distribution, for one that cannot be searched, and
            for one that is longer than what is read.
    """
    if len(text) > LONGEST_TEXT:
        raise SpaceError(f"a distribution of {len(text):,} characters, {LONGEST_TEXT:,} are read")
    return parse_distribution(text)


def external_value(distribution: BaseDistribution, internal: Any) -> Any:
    """Return a stored value as the objective saw it.

    Args:
        distribution: Of the value.
        internal: As databases store it: the number, or the index of the choice.

    Raises:
        ValueError: For what is not a finite number, or not the index of a choice. Numbers outside
            the bounds are fine: Optuna takes them where a user enqueues them.
    """
    if internal.__class__ is not float and not _is_number(internal):
        raise ValueError(f"the parameter {internal!r} is not a number")
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
