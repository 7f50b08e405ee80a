"""Values of one task in a unit in which arithmetic is safe.

Objectives come in any unit: likelihoods near 1e-200, sums of squares near 1e300. Squares of such
numbers underflow or overflow, and so do their differences. Models therefore see a task's values
times a power of two, which is exact: it changes neither their order nor their proportions, and
values in an ordinary unit, whose factor is 1, are not changed at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metahpo.tasks.distributions import Array

# Magnitudes between 2 to the minus this and 2 to this, 5e-97 to 2e96, are ordinary: sums of
# their squares are normal numbers.
ORDINARY_EXPONENT = 320
# Values beyond this, as some report for a failure, count as this: their squares are still finite.
LARGEST_VALUE = 1e100


def in_safe_unit(values: Sequence[float] | Array) -> tuple[Array, int]:
    """Values in a unit in which their squares neither overflow nor vanish.

    Args:
        values: ``n`` finite values of one task, n at least 0.

    Returns:
        ``n`` values, none beyond ``LARGEST_VALUE`` either way, and the exponent of the power of
        two that takes them back (``times_power_of_two``); 0 where they are ordinary.
    """
    given = np.asarray(values, dtype=float)
    exponent = safe_exponent(given)
    moved = times_power_of_two(given, -exponent)
    return np.clip(moved, -LARGEST_VALUE, LARGEST_VALUE), exponent


def times_power_of_two(values: Array, exponent: int) -> Array:
    """Values times 2 to the exponent; infinite where that is too large for floats."""
    if not exponent:
        return values
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(values, exponent)


def safe_exponent(values: Array) -> int:
    """The exponent of a task's magnitude; 0 where that is ordinary, or nothing.

    Args:
        values: ``n`` finite values, n at least 0. The largest magnitude in the better half of the
            distinct ones counts, so that a number that stands for a failure decides nothing.
    """
    distinct = np.unique(values)
    # Not those above the median, which is a mean: that of large numbers overflows.
    better = distinct[len(distinct) // 2 :]
    largest = np.abs(better).max(initial=0.0) or np.abs(distinct).max(initial=0.0)
    exponent = int(np.frexp(largest)[1])
    return exponent if abs(exponent) > ORDINARY_EXPONENT else 0
