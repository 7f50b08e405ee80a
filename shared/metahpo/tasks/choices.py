"""The identity of a choice: which values are the same choice of a categorical hyperparameter.

Hosts accept any object as a choice: tuples of lists, NumPy scalars, functions, NaN. Whatever
compares choices, looks them up or keeps something under them does it by the keys made here.

Optuna takes the first choice that is equal (``==``), NaN being equal to NaN, so that 1, 1.0 and
True are the same. Here the class decides first: where 1 and True are both choices, each is found.
Where they are not, the rule is Optuna's, and besides lists are equal to tuples, which storages
turn into them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Sequence
from enum import IntEnum
from numbers import Real
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution


class Match(IntEnum):
    """How alike two values must be, from the strictest.

    Attributes:
        CLASS: Equal and of the same class, all that they contain likewise.
        VALUE: Equal, whatever kind of number or of sequence; True is not 1.
        EQUALITY: Equal, whatever kind of number or of sequence; True is 1, as in Optuna.
    """

    CLASS = 0
    VALUE = 1
    EQUALITY = 2


class _NaN:
    """Stands for every NaN in keys."""


class _ByEquality:
    """A value without a hash, to be found by its own ``==``."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _ByEquality):
            return False
        return self._value is other._value or _equal(self._value, other._value)


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # Whatever a user's own ``__eq__`` raises: then it is not the same.
        return False


def choice_key(value: Any, match: Match = Match.CLASS) -> Hashable:
    """What the values that are the same choice have in common; equal for no others.

    Args:
        value: Any object.
        match: When two values are the same choice.
    """
    kind = _kind(value, match)
    if value.__class__ in (str, bool, int, type(None)):
        return kind, value
    if isinstance(value, Real) and math.isnan(value):
        return kind, _NaN
    match value:
        case list() | tuple():
            return kind, *(choice_key(item, match) for item in value)
        case dict():
            items = value.items()
            pairs = frozenset((choice_key(k, match), choice_key(v, match)) for k, v in items)
            return kind, "mapping", pairs
        case set() | frozenset():
            return kind, "set", frozenset(choice_key(item, match) for item in value)
        case np.ndarray():
            # Without dimensions it is no sequence.
            items = value.tolist() if value.ndim else (value.item(),)
            return kind, *(choice_key(item, match) for item in items)
    return kind, value if _has_hash(value) else _ByEquality(value)


def _kind(value: Any, match: Match) -> Hashable:
    """What two values must have in common besides being equal."""
    if match is Match.CLASS:
        return type(value)
    match value:
        case list() | tuple() | np.ndarray():
            return "sequence"
        case bool() | np.bool_() if match is Match.VALUE:
            return "switch"
    return None


def _has_hash(value: Any) -> bool:
    try:
        hash(value)
    except Exception:  # TypeError by rule, anything by a user's own ``__hash__``.
        return False
    return True


def same_choice(one: Any, other: Any) -> bool:
    """Whether two values are the same choice, whatever kind of number or sequence they are."""
    return choice_key(one, Match.VALUE) == choice_key(other, Match.VALUE)


class ChoiceIndex:
    """Finds values among the choices of a distribution.

    Args:
        choices: In their order.
    """

    def __init__(self, choices: Sequence[Any]) -> None:
        self._choices = choices
        self._indices: dict[Match, dict[Hashable, int]] = {}

    def __call__(self, value: Any) -> float:
        """The index of a value's choice: of the first of its class, or else of the first; NaN."""
        for match in (Match.CLASS, Match.EQUALITY):
            index = self._by_key(match).get(choice_key(value, match))
            if index is not None:
                return float(index)
        return math.nan

    def _by_key(self, match: Match) -> dict[Hashable, int]:
        # Made when first needed: most values have the class of their choice.
        if match not in self._indices:
            keys = [choice_key(choice, match) for choice in self._choices]
            self._indices[match] = {key: i for i, key in reversed([*enumerate(keys)])}
        return self._indices[match]


def distribution_key(distribution: BaseDistribution) -> Hashable:
    """What equal distributions have in common: the same levels in the same places."""
    if isinstance(distribution, CategoricalDistribution):
        return CategoricalDistribution, *map(choice_key, distribution.choices)
    return type(distribution), *sorted(distribution._asdict().items())


# ---- choices as text -----------------------------------------------------------------------


def choice_text(value: Any) -> str:
    """A choice for people, the same in every process: without addresses in memory."""
    if value.__class__ in (str, int, float, bool, type(None)):
        return repr(value)
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return name
    text = repr(value)
    return type(value).__qualname__ if " at 0x" in text else text


def plain_scalar(value: Any) -> Any:
    """The number or text that a NumPy scalar is; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def in_json(value: Any) -> Any:
    """``default`` of ``json.dumps``: NumPy scalars as the numbers that they are.

    Raises:
        TypeError: For anything else, as ``json.dumps`` does.
    """
    if isinstance(value, np.generic):
        return plain_scalar(value)
    raise TypeError(f"JSON cannot hold {choice_text(value)}, a {type(value).__name__}")


def holds_in_json(value: Any) -> bool:
    """Whether JSON can hold a choice."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
