"""Search spaces: configurations to and from the unit cube.

Search spaces are expressed as ``optuna.distributions``. This file is the only normaliser in the
project: every model sees points of the unit cube that were made here.

Notation, used in all numerical files of the package:

    n   points (configurations)
    d   hyperparameters

    points     ``n x d`` in [0, 1]; NaN where the hyperparameter is inactive. A value outside the
               bounds, as past tasks may have, lies outside [0, 1].
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from metahpo.tasks.choices import ChoiceIndex, choice_key, distribution_key, same_choice
from metahpo.tasks.distributions import (
    MISSING,
    Array,
    SpaceError,
    decode_column,
    distribution_text,
    encode_choices,
    encode_numbers,
    is_number,
    level_indices,
    levels_of,
    parse_distribution,
    positions_of_levels,
)

Configuration: TypeAlias = Mapping[str, Any]

# Where an inactive hyperparameter is put: halfway, so that no end of its range is preferred.
INACTIVE_POSITION = 0.5
# Positions this little beyond the bounds are rounding.
ROUNDING = 1e-9


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
            return is_number(value) and value >= self.at_least
        return any(same_choice(value, choice) for choice in self.choices)

    @property
    def key(self) -> Hashable:
        """What conditions that admit the same have in common."""
        return self.parent, frozenset(map(choice_key, self.choices)), self.at_least


def _check_acyclic(parents: Mapping[str, str]) -> None:
    checked: set[str] = set()
    for name in parents:
        path: dict[str, None] = {}
        while name in parents and name not in checked:
            if name in path:
                raise SpaceError(f"the conditions of {sorted(path)} depend on each other")
            path[name] = None
            name = parents[name]
        checked.update(path)


@dataclass(frozen=True)
class Space:
    """An ordered set of hyperparameters with their distributions and conditions.

    Args:
        distributions: Hyperparameter names and their ``optuna.distributions``.
        conditions: For the hyperparameters that are not always active, when they are.

    Raises:
        SpaceError: For a distribution that is none of Float, Int and Categorical, for a condition
            on or of a hyperparameter that the space lacks, and for conditions that depend on each
            other.
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
        _check_acyclic({name: condition.parent for name, condition in self.conditions.items()})
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
        return tuple(levels_of(distribution) for distribution in self.distributions.values())

    @cached_property
    def is_categorical(self) -> tuple[bool, ...]:
        """Whether each hyperparameter is categorical."""
        return tuple(
            isinstance(distribution, CategoricalDistribution)
            for distribution in self.distributions.values()
        )

    @cached_property
    def middle(self) -> Array:
        """d, where what is not known is put: halfway, or at the level there."""
        return self.snap(np.full((1, len(self)), INACTIVE_POSITION))[0]

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
            values = [configuration.get(name, MISSING) for configuration in configurations]
            if isinstance(distribution, CategoricalDistribution):
                choices = self._choice_index(name)
                points[:, column] = encode_choices(values, choices, self.levels[column])
            else:
                points[:, column] = encode_numbers(values, distribution)
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
            values = decode_column(np.clip(points[active, column], 0.0, 1.0), distribution)
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
                indices = level_indices(snapped[active, column], distribution)
                snapped[active, column] = positions_of_levels(indices, distribution)
        return snapped

    def level_positions(self, column: int) -> Array:
        """Positions in [0, 1] of all values of a hyperparameter that has levels, ascending."""
        return positions_of_levels(np.arange(self.levels[column]), self._distribution(column))

    def adjacent_levels(self, column: int, position: float) -> Array:
        """Positions of the levels below and above the one at a position; one at either end."""
        distribution = self._distribution(column)
        indices = level_indices(np.array([position]), distribution) + np.array([-1, 1])
        there = (indices >= 0) & (indices < self.levels[column])
        return positions_of_levels(indices[there], distribution)

    @staticmethod
    def inside(points: Array) -> NDArray[np.bool_]:
        """Whether each position of ``n x d`` points lies within the bounds; NaN does."""
        return ~(np.abs(points - 0.5) > 0.5 + ROUNDING)

    @staticmethod
    def key(point: Array) -> bytes:
        """What two points that are the same configuration have in common."""
        return Space.keys(point[None])[0]

    @staticmethod
    def distinct(points: Array) -> NDArray[np.intp]:
        """Indices of ``n x d`` points without repetitions, in the order of their positions."""
        return np.unique(_comparable(points), axis=0, return_index=True)[1]

    @staticmethod
    def keys(points: Array) -> list[bytes]:
        """The keys of ``n x d`` points."""
        return [row.tobytes() for row in _comparable(points)]

    # ---- conditions ------------------------------------------------------------------------

    def canonical(self, points: Array, held: Array | None = None) -> Array:
        """The one form of each configuration, in which points are compared.

        Gaps are filled, positions are moved to their levels, and then the conditions decide,
        parents first, what is active. Points whose ``key`` agrees in this form are the same
        configuration.

        Args:
            points: n x d; NaN for what is inactive or not known.
            held: d, positions that all points are to have, as they are, beyond the bounds too; NaN
                where nothing is held. Conditions may still make what is held inactive.

        Returns:
            n x d.
        """
        placed = self.snap(self._filled(points))
        if held is not None:
            placed = np.where(np.isnan(held), placed, held)
        return self._ruled_out(placed)

    def activate(self, points: Array) -> Array:
        """Points whose activity agrees with the conditions.

        Hyperparameters that a condition rules out become NaN; active ones that are NaN are
        put in the middle. Parents are decided before the hyperparameters that depend on them.

        Args:
            points: n x d.

        Returns:
            n x d.
        """
        return self._ruled_out(self._filled(points))

    def _filled(self, points: Array) -> Array:
        return np.where(np.isnan(points), self.middle, points)

    def _ruled_out(self, points: Array) -> Array:
        """Points without gaps, changed in place: NaN where a condition rules out."""
        for name in self.parents_first:
            if name in self.conditions:
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
        if condition.at_least is None and isinstance(distribution, CategoricalDistribution):
            choices = self._choice_index(condition.parent)
            admitted = np.zeros(len(parent), dtype=bool)
            indices = level_indices(np.clip(parent[active], 0.0, 1.0), distribution)
            admitted[active] = np.isin(indices, [choices(choice) for choice in condition.choices])
            return admitted
        values = decode_column(np.clip(parent[active], 0.0, 1.0), distribution)
        admitted = np.zeros(len(parent), dtype=bool)
        admitted[active] = [condition.admits(value) for value in values]
        return admitted

    @cached_property
    def parents_first(self) -> tuple[str, ...]:
        """The hyperparameters' names, each after the one that its condition depends on."""
        ordered: list[str] = [name for name in self if name not in self.conditions]
        waiting = list(self.conditions)
        while waiting:
            ready = [name for name in waiting if self.conditions[name].parent not in waiting]
            ordered += ready
            waiting = [name for name in waiting if name not in ready]
        return tuple(ordered)

    # ---- JSON ------------------------------------------------------------------------------

    def to_json(self) -> dict[str, str]:
        """Each hyperparameter's distribution as Optuna's JSON text.

        Raises:
            TypeError: For choices that JSON cannot hold; NumPy's scalars become numbers.
        """
        return {name: distribution_text(value) for name, value in self.distributions.items()}

    @classmethod
    def from_json(cls, texts: Mapping[str, str]) -> Space:
        """The space that ``to_json`` wrote.

        Raises:
            SpaceError: For a text that is no distribution, or none to compute with.
        """
        return cls({name: parse_distribution(text) for name, text in texts.items()})

    @cached_property
    def key_of_distributions(self) -> Hashable:
        """What spaces of equal hyperparameters in the same order have in common."""
        return tuple((name, distribution_key(d)) for name, d in self.distributions.items())

    def _choice_index(self, name: str) -> ChoiceIndex:
        """Finds the choices of a categorical hyperparameter."""
        if name not in self._choice_indices:
            distribution = self.distributions[name]
            assert isinstance(distribution, CategoricalDistribution)
            self._choice_indices[name] = ChoiceIndex(distribution.choices)
        return self._choice_indices[name]

    @cached_property
    def _choice_indices(self) -> dict[str, ChoiceIndex]:
        return {}

    def _distribution(self, column: int) -> BaseDistribution:
        return self.distributions[self.names[column]]


def _comparable(points: Array) -> Array:
    # Adding 0 turns -0 into 0, whose bytes differ.
    return np.nan_to_num(points, nan=-1.0).round(9) + 0.0
