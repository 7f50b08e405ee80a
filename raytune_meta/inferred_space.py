"""The search space of an experiment, inferred from the values that were tried.

Ray's folders do not hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from metahpo.tasks.choices import choice_key
from metahpo.tasks.distributions import LARGEST_BOUND, LARGEST_INTEGER
from metahpo.tasks.space import Configuration, Space
from raytune_meta.trial_folder import as_float

# A positive number that spans this factor, two decades, was searched on a log scale.
LOG_SPAN = 100.0
# A string that differs in each of more trials than this is a label, such as a path.
LABELS_FROM = 10


def infer_space(configurations: Sequence[Configuration]) -> Space:
    """Return the space that configurations seem to come from.

    Numbers make a range from the least to the greatest value, on a log scale where they are
    positive and span two decades or more; whole numbers make a range of whole numbers. Anything
    else makes a choice among the values seen. Parameters that never differ are left out, and so
    are strings that differ in each of more than ten trials: they are labels.

    Args:
        configurations: Flat configurations of the trials.
    """
    names = dict.fromkeys(name for configuration in configurations for name in configuration)
    found = {name: _distribution([c[name] for c in configurations if name in c]) for name in names}
    return Space({name: d for name, d in found.items() if d is not None})


def _distribution(values: list[Any]) -> BaseDistribution | None:
    """Return the distribution of a parameter's values; None for constants and labels."""
    numbers = [as_float(value) for value in values]
    if all(number is not None and abs(number) <= LARGEST_BOUND for number in numbers):
        low, high = min(values), max(values)
        log = low > 0 and high / LOG_SPAN >= low
        if low == high:
            return None
        are_integers = all(isinstance(value, int) for value in values)
        if are_integers and max(-low, high) <= LARGEST_INTEGER:
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    # By type as well: True is not 1.
    choices = {choice_key(value): value for value in values}
    is_label = len(choices) == len(values) > LABELS_FROM
    if len(choices) == 1 or (is_label and all(isinstance(value, str) for value in values)):
        return None
    return CategoricalDistribution(tuple(choices.values()))
