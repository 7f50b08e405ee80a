"""Search spaces: configurations to and from the unit cube.

A search space is spoken in ``optuna.distributions``. This file is the only normaliser in the
project: every model sees points of the unit cube that were made here.

Notation, used in all numerical files of the package:

    n   points (configurations)
    d   hyperparameters
    p   features: what a kernel measures distances between (``Space.features``)

    points     n x d in [0, 1]; NaN where the hyperparameter is inactive. A value outside the
               bounds, as past tasks may have, lies outside [0, 1].
    features   n x p: numerical hyperparameters as they are, a categorical one as K columns
               (one-hot), and an activity column for each hyperparameter that can be inactive.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property, lru_cache
from numbers import Real
from types import MappingProxyType
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

Configuration: TypeAlias = Mapping[str, Any]
Array: TypeAlias = NDArray[np.float64]

# Where an inactive hyperparameter is put: halfway, so that no end of its range is preferred.
INACTIVE_POSITION = 0.5
# Two choices of a categorical one-hot lie sqrt(2) apart; scaled, they lie one range apart.
ONE_HOT_SCALE = 1.0 / math.sqrt(2.0)


class SpaceError(ValueError):
    """A search space or a configuration that breaks a rule; the message states both."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A hyperparameter is active only while ``parent`` is active and its value is admitted.

    Attributes:
        parent: Name of the hyperparameter that decides.
        choices: Admitted choices of a categorical parent.
        at_least: Smallest admitted value of a numerical parent (``n_units_3`` needs three
            layers).
    """

    parent: str
    choices: tuple[Any, ...] = ()
    at_least: float | None = None

    def admits(self, value: Any) -> bool:
        """Whether the parent's ``value`` makes the hyperparameter active."""
        if self.at_least is not None:
            return _is_number(value) and value >= self.at_least
        return value in self.choices


@dataclass(frozen=True)
class Space:
    """An ordered set of hyperparameters with their distributions and conditions.

    Args:
        distributions: Hyperparameter names and their ``optuna.distributions``.
        conditions: For the hyperparameters that are not always active, when they are.

    Raises:
        SpaceError: For a distribution that is none of Float, Int and Categorical, and for a
            condition on or of a hyperparameter that the space lacks.
    """

    distributions: Mapping[str, BaseDistribution]
    conditions: Mapping[str, Condition] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, distribution in self.distributions.items():
            if not isinstance(
                distribution, FloatDistribution | IntDistribution | CategoricalDistribution
            ):
                raise SpaceError(
                    f"hyperparameter {name!r}: expected a Float-, Int- or "
                    f"CategoricalDistribution, got {distribution!r}"
                )
        for name, condition in self.conditions.items():
            if missing := {name, condition.parent} - self.distributions.keys():
                raise SpaceError(
                    f"the condition of {name!r} on {condition.parent!r}: both must be in the "
                    f"space, {sorted(missing)} is not"
                )
        object.__setattr__(self, "distributions", MappingProxyType(dict(self.distributions)))
        object.__setattr__(self, "conditions", MappingProxyType(dict(self.conditions)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Mapping proxies do not pickle.
        return Space, (dict(self.distributions), dict(self.conditions))

    def __len__(self) -> int:
        return len(self.distributions)

    def __iter__(self) -> Iterator[str]:
        return iter(self.distributions)

    def __contains__(self, name: object) -> bool:
        return name in self.distributions

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The hyperparameters' names, in the order of the columns."""
        return tuple(self.distributions)

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """The number of values each hyperparameter can take; 0 for a continuous one."""
        return tuple(_levels(distribution) for distribution in self.distributions.values())

    @cached_property
    def is_categorical(self) -> tuple[bool, ...]:
        """Whether each hyperparameter is categorical."""
        return tuple(
            isinstance(distribution, CategoricalDistribution)
            for distribution in self.distributions.values()
        )

    # ---- configurations <-> points ---------------------------------------------------------

    def encode(self, configurations: Sequence[Configuration]) -> Array:
        """Configurations as points.

        Args:
            configurations: n configurations. A hyperparameter that a configuration lacks is
                inactive there, and so is a value that has no place in this space (an unknown
                choice, a text for a number, a negative number on a log scale). Others are
                ignored. Numerical values outside the bounds are placed outside [0, 1].

        Returns:
            n x d, NaN where inactive.
        """
        points = np.empty((len(configurations), len(self)))
        for column, (name, distribution) in enumerate(self.distributions.items()):
            values = [configuration.get(name, _MISSING) for configuration in configurations]
            if isinstance(distribution, CategoricalDistribution):
                points[:, column] = _encode_choices(values, distribution)
            else:
                points[:, column] = _encode_numbers(_as_numbers(values), distribution)
        return points

    def decode(self, points: Array) -> list[dict[str, Any]]:
        """Points as configurations that the distributions contain.

        Args:
            points: n x d; clipped to [0, 1], rounded to the nearest value that the
                distribution has; NaN leaves the hyperparameter out.

        Returns:
            n configurations.
        """
        configurations: list[dict[str, Any]] = [{} for _ in range(len(points))]
        for column, (name, distribution) in enumerate(self.distributions.items()):
            active = ~np.isnan(points[:, column])
            values = _decode_column(np.clip(points[active, column], 0.0, 1.0), distribution)
            for row, value in zip(np.flatnonzero(active), values, strict=True):
                configurations[row][name] = value
        return configurations

    def snap(self, points: Array) -> Array:
        """Points moved to the centre of the level that ``decode`` takes them for.

        Args:
            points: n x d; clipped to [0, 1]. Hyperparameters without levels stay.

        Returns:
            n x d, inactive where it was.
        """
        snapped = np.clip(points, 0.0, 1.0)
        for column, levels in enumerate(self.levels):
            if levels:
                active = ~np.isnan(snapped[:, column])
                distribution = self._distribution(column)
                indices = _level_indices(snapped[active, column], distribution)
                snapped[active, column] = _positions_of_levels(indices, distribution)
        return snapped

    def level_positions(self, column: int) -> Array:
        """Positions in [0, 1] of all values of a hyperparameter that has levels, ascending."""
        return _positions_of_levels(np.arange(self.levels[column]), self._distribution(column))

    # ---- points -> features ----------------------------------------------------------------

    @cached_property
    def feature_owner(self) -> tuple[int, ...]:
        """For each of the p features, the hyperparameter (column of a point) it comes from.

        Activity columns come last and own themselves: d, d + 1, ...
        """
        owner: list[int] = []
        for column, name in enumerate(self.names):
            owner.extend([column] * (self._choices(name) or 1))
        conditional = sum(name in self.conditions for name in self.names)
        return (*owner, *range(len(self), len(self) + conditional))

    @cached_property
    def numerical_features(self) -> tuple[tuple[int, int], ...]:
        """Pairs (feature, column) for the numerical hyperparameters."""
        owners = self.feature_owner
        return tuple(
            (owners.index(column), column)
            for column, categorical in enumerate(self.is_categorical)
            if not categorical
        )

    def features(self, points: Array) -> Array:
        """What kernels measure distances between.

        Args:
            points: n x d.

        Returns:
            n x p, without NaN: an inactive number is put halfway, an inactive categorical has
            no choice, and the activity columns tell which were inactive.
        """
        blocks: list[Array] = []
        active = ~np.isnan(points)
        for column, name in enumerate(self.names):
            if choices := self._choices(name):
                blocks.append(_one_hot(points[:, column], choices))
            else:
                filled = np.where(active[:, column], points[:, column], INACTIVE_POSITION)
                blocks.append(filled[:, None])
        conditional = [column for column, name in enumerate(self.names) if name in self.conditions]
        blocks.append(active[:, conditional].astype(float))
        return np.concatenate(blocks, axis=1) if blocks else np.empty((len(points), 0))

    # ---- conditions ------------------------------------------------------------------------

    def activate(self, points: Array) -> Array:
        """Points whose activity agrees with the conditions.

        Hyperparameters that a condition rules out become NaN; active ones that are NaN are
        put halfway. Parents are decided before the hyperparameters that depend on them.

        Args:
            points: n x d.

        Returns:
            n x d.
        """
        points = np.where(np.isnan(points), INACTIVE_POSITION, points)
        for name in self._parents_first():
            condition = self.conditions[name]
            parent = points[:, self.names.index(condition.parent)]
            admitted = self._admitted(condition, parent)
            points[~admitted, self.names.index(name)] = np.nan
        return points

    def with_conditions(self, conditions: Mapping[str, Condition]) -> Space:
        """The same hyperparameters under these conditions; unknown names are dropped."""
        known = {
            name: condition
            for name, condition in conditions.items()
            if name in self and condition.parent in self
        }
        return replace(self, conditions=known)

    def _admitted(self, condition: Condition, parent: Array) -> NDArray[np.bool_]:
        """n: whether each position of the parent (NaN: inactive) is admitted."""
        distribution = self.distributions[condition.parent]
        active = np.flatnonzero(~np.isnan(parent))
        values = _decode_column(np.clip(parent[active], 0.0, 1.0), distribution)
        admitted = np.zeros(len(parent), dtype=bool)
        admitted[active] = [condition.admits(value) for value in values]
        return admitted

    def _parents_first(self) -> list[str]:
        ordered: list[str] = []
        waiting = list(self.conditions)
        while waiting:
            ready = [name for name in waiting if self.conditions[name].parent not in waiting]
            if not ready:
                raise SpaceError(f"the conditions of {sorted(waiting)} depend on each other")
            ordered += ready
            waiting = [name for name in waiting if name not in ready]
        return ordered

    # ---- JSON ------------------------------------------------------------------------------

    def to_json(self) -> dict[str, str]:
        """Each hyperparameter's distribution as Optuna's JSON text."""
        return {name: distribution_to_json(value) for name, value in self.distributions.items()}

    @classmethod
    def from_json(cls, texts: Mapping[str, str]) -> Space:
        """The space that ``to_json`` wrote.

        Raises:
            SpaceError: For a text that is no distribution.
        """
        return cls({name: parse_distribution(text) for name, text in texts.items()})

    def _distribution(self, column: int) -> BaseDistribution:
        return self.distributions[self.names[column]]

    def _choices(self, name: str) -> int:
        """The number of choices of a categorical hyperparameter, 0 for a numerical one."""
        distribution = self.distributions[name]
        if isinstance(distribution, CategoricalDistribution):
            return len(distribution.choices)
        return 0


def infer_conditions(
    spaces: Iterable[Space], observed: Iterable[Sequence[Configuration]]
) -> dict[str, Condition]:
    """Conditions that explain which hyperparameters were absent from which configurations.

    A define-by-run host never states its conditions, but its trials show them. For each
    hyperparameter that some configurations lack, the first discrete hyperparameter whose value
    decides exactly (in every configuration seen) is taken as its parent.

    Args:
        spaces: The space of each task. A hyperparameter that is not in a task's space at all
            says nothing about conditions.
        observed: The configurations of each task, in the same order.

    Returns:
        Conditions by hyperparameter; nothing for those that no single parent explains.
    """
    tasks = list(zip(spaces, observed, strict=True))
    names = dict.fromkeys(name for space, _ in tasks for name in space)
    parents = _discrete(space for space, _ in tasks)
    conditions: dict[str, Condition] = {}
    for name in names:
        rows = [c for space, seen in tasks if name in space for c in seen]
        if all(name in c for c in rows):
            continue
        found = (
            _condition(name, parent, rows, categorical)
            for parent, categorical in parents.items()
            if parent != name
        )
        usable = (c for c in found if c is not None and not _cyclic(name, c, conditions))
        if condition := next(usable, None):
            conditions[name] = condition
    return conditions


def _cyclic(name: str, condition: Condition, known: Mapping[str, Condition]) -> bool:
    parent: str | None = condition.parent
    while parent is not None:
        if parent == name:
            return True
        parent = known[parent].parent if parent in known else None
    return False


def _discrete(spaces: Iterable[Space]) -> dict[str, bool]:
    """The hyperparameters with levels, and whether each is categorical."""
    return {
        name: isinstance(distribution, CategoricalDistribution)
        for space in spaces
        for name, distribution in space.distributions.items()
        if not isinstance(distribution, FloatDistribution)
    }


def _condition(
    name: str, parent: str, rows: Sequence[Configuration], categorical: bool
) -> Condition | None:
    """The condition on ``parent`` that explains where ``name`` is present, if there is one."""
    if any(name in row and parent not in row for row in rows):
        return None
    decided = [(row[parent], name in row) for row in rows if parent in row]
    if not all(isinstance(value, Hashable) for value, _ in decided):
        return None
    present = {value for value, has in decided if has}
    absent = {value for value, has in decided if not has}
    if not present or not absent or present & absent:
        return None
    if all(_is_number(value) for value in present | absent) and max(absent) < min(present):
        return Condition(parent, at_least=min(present))
    return Condition(parent, choices=tuple(sorted(present, key=repr))) if categorical else None


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


# ---- distributions -------------------------------------------------------------------------

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
        SpaceError: For a text that is no distribution.
    """
    try:
        record = json.loads(text)
        former = _FORMER_DISTRIBUTIONS.get(record.get("name"))
        return former(record["attributes"]) if former else json_to_distribution(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpaceError(f"not the JSON text of a distribution: {text!r} ({error!r})") from error


# ---- one column ----------------------------------------------------------------------------

_MISSING = object()


def _levels(distribution: BaseDistribution) -> int:
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return (distribution.high - distribution.low) // distribution.step + 1
    assert isinstance(distribution, FloatDistribution)
    if distribution.step is not None:
        return round((distribution.high - distribution.low) / distribution.step) + 1
    return 1 if distribution.single() else 0


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
        return np.where(np.isnan(values), math.nan, INACTIVE_POSITION)
    return (values - low) / (high - low)


def _encode_choices(values: list[Any], distribution: CategoricalDistribution) -> Array:
    count = len(distribution.choices)
    # By class as well: True is not 1, where both are choices.
    index: dict[Hashable, float] = {
        _choice_key(choice): i for i, choice in reversed([*enumerate(distribution.choices)])
    }

    def position(value: Any) -> float:
        if value is _MISSING:
            return math.nan
        key = _choice_key(value)
        if key not in index:
            try:
                index[key] = distribution.to_internal_repr(value)
            except ValueError:
                index[key] = math.nan
        return (index[key] + 0.5) / count

    return np.array([position(value) for value in values], float)


def _choice_key(value: Any) -> Hashable:
    return (type(value), value if isinstance(value, Hashable) else repr(value))


def _decode_column(positions: Array, distribution: BaseDistribution) -> list[Any]:
    """The values at positions in [0, 1] without NaN."""
    if isinstance(distribution, CategoricalDistribution):
        return [distribution.choices[i] for i in _level_indices(positions, distribution)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if isinstance(distribution, IntDistribution):
        last = _levels(distribution) - 1
        # In Python's integers, which are exact where those of floats are not.
        steps = [min(int(i), last) for i in _level_indices(positions, distribution)]
        return [distribution.low + step * distribution.step for step in steps]
    if distribution.step is not None:
        # 0.1 + 2 * 0.1 leaves 0.30000000000000004 where 0.3 is meant.
        decimals = max(_decimals(distribution.step), _decimals(distribution.low))
        indices = _level_indices(positions, distribution)
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


def _level_indices(positions: Array, distribution: BaseDistribution) -> Array:
    """Whole numbers from 0: the level on whose share of the unit interval each position lies."""
    last = _levels(distribution) - 1
    if isinstance(distribution, CategoricalDistribution):
        return np.clip(np.floor(positions * (last + 1)), 0, last).astype(int)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    steps = (_natural(positions, distribution) - distribution.low) / (distribution.step or 1)
    return np.clip(np.rint(steps), 0, last)


def _values_of_levels(
    indices: NDArray[Any], distribution: FloatDistribution | IntDistribution
) -> Array:
    return distribution.low + np.asarray(indices, float) * (distribution.step or 1)


def _positions_of_levels(indices: NDArray[Any], distribution: BaseDistribution) -> Array:
    if isinstance(distribution, CategoricalDistribution):
        return (indices + 0.5) / len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return _encode_numbers(_values_of_levels(indices, distribution), distribution)


def _decimals(number: float) -> int:
    """Digits after the point in the shortest text of a number."""
    exponent = Decimal(str(number)).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _one_hot(positions: Array, choices: int) -> Array:
    active = np.flatnonzero(~np.isnan(positions))
    block = np.zeros((len(positions), choices))
    indices = np.clip(np.floor(positions[active] * choices), 0, choices - 1).astype(int)
    block[active, indices] = ONE_HOT_SCALE
    return block
