"""A search space of Ray's as nodes: a tree of constants, domains and choices among trees."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from optuna.distributions import BaseDistribution, CategoricalDistribution

from metahpo.tasks.choices import Match, choice_key
from metahpo.tasks.space import Condition
from raytune_meta._ray import Categorical, Domain
from raytune_meta.domains import to_distribution
from raytune_meta.folders import SEPARATOR
from raytune_meta.plain import Scalar

GRID_SEARCH = (
    "Grid search parameters cannot be automatically converted to a MetaSearch search space: "
    "{name!r}. Use tune.choice, or run tune without a search algorithm."
)
# Stands for a value that a tree does not have.
MISSING = object()


@dataclass(frozen=True)
class Constant:
    """What is the same in every configuration."""

    value: Any


@dataclass(frozen=True)
class Leaf:
    """One hyperparameter."""

    name: str


@dataclass(frozen=True)
class Choice:
    """A categorical hyperparameter among trees.

    Attributes:
        name: The hyperparameter's name.
        options: The trees, with their labels.
    """

    name: str
    options: tuple[tuple[Any, Node], ...]


@dataclass(frozen=True)
class Branch:
    """A dictionary, or a list or tuple with the indices as keys."""

    kind: type
    children: Mapping[Any, Node]


Node: TypeAlias = Constant | Leaf | Choice | Branch


@dataclass
class CollectedNodes:
    """The hyperparameters collected from a tree so far."""

    distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    conditions: dict[str, Condition] = field(default_factory=dict)
    quanta: dict[str, float] = field(default_factory=dict)

    def node(self, value: Any, path: tuple[Any, ...], condition: Condition | None) -> Node:
        """Return the node of a value, and collect the hyperparameters in it."""
        name = path_name(path)
        match value:
            case Categorical() if value.is_grid():
                raise ValueError(GRID_SEARCH.format(name=name))
            case Categorical() if not all(isinstance(c, Scalar) for c in value.categories):
                return self._choice(value.categories, path, condition)
            case Domain():
                distribution, quantum = to_distribution(name, value)
                return self._leaf(name, distribution, condition, quantum)
            case {"grid_search": _} if len(value) == 1:
                raise ValueError(GRID_SEARCH.format(name=name))
            case {"eval": _} if len(value) == 1:
                raise ValueError(f"hyperparameter {name!r}: use tune.sample_from, not 'eval'")
            case dict() | list() | tuple():
                keys = value if isinstance(value, dict) else range(len(value))
                children = {key: self.node(value[key], (*path, key), condition) for key in keys}
                if all(isinstance(child, Constant) for child in children.values()):
                    return Constant(value)
                return Branch(type(value), children)
        return Constant(value)

    def _choice(
        self, categories: Sequence[Any], path: tuple[Any, ...], condition: Condition | None
    ) -> Choice:
        key = _distinguishing_key(categories)
        labels = _labels(categories, key)
        name = path_name(path if key is None else (*path, key))
        leaf = self._leaf(name, CategoricalDistribution(tuple(labels)), condition, None)
        options = [
            (label, self.node(category, path, Condition(leaf.name, choices=(label,))))
            for label, category in zip(labels, categories, strict=True)
        ]
        return Choice(leaf.name, tuple(options))

    def _leaf(
        self,
        name: str,
        distribution: BaseDistribution,
        condition: Condition | None,
        quantum: float | None,
    ) -> Leaf:
        name = self._uniquepath_name(name, distribution, condition, quantum)
        self.distributions[name] = distribution
        if condition is not None:
            known = self.conditions.get(name)
            choices = (*(known.choices if known else ()), *condition.choices)
            self.conditions[name] = Condition(condition.parent, choices=choices)
        if quantum is not None:
            self.quanta[name] = quantum
        return Leaf(name)

    def _uniquepath_name(
        self,
        name: str,
        distribution: BaseDistribution,
        condition: Condition | None,
        quantum: float | None,
    ) -> str:
        """Return the name, or a numbered one where another option uses it differently."""
        candidate, number = name, 1
        while candidate in self.distributions:
            other = self.conditions.get(candidate)
            shared = other and condition and other.parent == condition.parent
            alike = (self.distributions[candidate], self.quanta.get(candidate))
            if shared and alike == (distribution, quantum):
                break
            number += 1
            candidate = f"{name}#{number}"
        return candidate

    def check_keys(self, node: Node, path: tuple[Any, ...]) -> None:
        """Raise ``ValueError`` for keys above domains that contain the separator."""
        match node:
            case Branch():
                for key, child in node.children.items():
                    if SEPARATOR in str(key) and not isinstance(child, Constant):
                        raise ValueError(
                            f"the key {key!r} of the search space contains {SEPARATOR!r}, which "
                            "Ray Tune puts between the levels of nested spaces; rename or nest it"
                        )
                    self.check_keys(child, (*path, key))
            case Choice():
                for _, option in node.options:
                    self.check_keys(option, path)


def path_name(path: tuple[Any, ...]) -> str:
    """Return the flat name of a place in a tree."""
    return SEPARATOR.join(map(str, path))


def _distinguishing_key(categories: Sequence[Any]) -> str | None:
    """Return the first key whose constants differ between all dictionaries; None without."""
    if not all(isinstance(category, dict) for category in categories):
        return None
    for key in categories[0]:
        values = [category.get(key, MISSING) for category in categories]
        plain = isinstance(key, str) and all(isinstance(value, Scalar) for value in values)
        if plain and len(set(map(choice_key, values))) == len(values):
            return key
    return None


def _labels(categories: Sequence[Any], key: str | None) -> list[Any]:
    if key is not None:
        return [category[key] for category in categories]
    labels: list[Any] = []
    taken: set[Hashable] = set()
    for number, category in enumerate(categories):
        label = category if isinstance(category, Scalar) else _text(category, number)
        identity = choice_key(label, Match.EQUALITY)
        labels.append(f"{label} (option {number})" if identity in taken else label)
        taken.add(identity)
    return labels


def _text(category: Any, number: int) -> str:
    """Return a label as it is read from experiments' folders: lists become JSON strings."""
    try:
        return json.dumps(category)
    except TypeError:
        return f"option {number}"
