"""Ray Tune's search spaces, which are trees, as flat ones.

A search space of Ray's is a tree of dictionaries and lists whose leaves are constants and domains.
Here it becomes a ``Space`` with flat names (``model/lr``, as in Ray's own results and in its
experiments' folders) and configurations become trees again.

A choice among dictionaries that hold domains, ``tune.choice([{"kind": "svm", "C": ...}, ...])``,
is a categorical hyperparameter, and the hyperparameters in a dictionary are active while that
dictionary is chosen. If a constant distinguishes the dictionaries (``kind``), it names the choice,
as it does in the folders of past experiments.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from optuna.distributions import BaseDistribution, CategoricalDistribution

from metahpo.tasks.choices import Match, choice_key
from metahpo.tasks.space import Condition, Configuration, Space
from raytune_meta._ray import Categorical, Domain
from raytune_meta.domains import rounded, to_distribution
from raytune_meta.folders import SEPARATOR
from raytune_meta.plain import Scalar, plain, plain_tree

GRID_SEARCH = (
    "Grid search parameters cannot be automatically converted to a MetaSearch search space: "
    "{name!r}. Use tune.choice, or run tune without a search algorithm."
)


@dataclass(frozen=True)
class _Constant:
    value: Any


@dataclass(frozen=True)
class _Leaf:
    """One hyperparameter."""

    name: str


@dataclass(frozen=True)
class _Choice:
    """A categorical hyperparameter among trees.

    Attributes:
        name: The hyperparameter's name.
        options: The trees, with their labels.
    """

    name: str
    options: tuple[tuple[Any, _Node], ...]


@dataclass(frozen=True)
class _Branch:
    """A dictionary, or a list or tuple with the indices as keys."""

    kind: type
    children: Mapping[Any, _Node]


_Node: TypeAlias = _Constant | _Leaf | _Choice | _Branch


class SearchSpace:
    """A search space of Ray's.

    Args:
        tree: What ``param_space`` holds once Ray has taken functions and objects out of it.
            Optuna's distributions may stand for domains.

    Raises:
        ValueError: For a grid search, for a domain that no distribution describes, and for a key
            with ``/`` above a domain.
    """

    def __init__(self, tree: Mapping[str, Any]) -> None:
        found = _Collected()
        self.tree: dict[str, Any] = plain_tree(tree)
        children = {key: found.node(v, (key,), None) for key, v in self.tree.items()}
        self._root = _Branch(dict, children)
        found.check_keys(self._root, ())
        self._quanta = found.quanta
        self.space = Space(found.distributions, found.conditions)

    def finished(self, configuration: Configuration) -> dict[str, Any]:
        """Return the configuration, rounded where distributions cannot express the steps."""
        return {
            name: rounded(value, self._quanta[name], self.space.distributions[name])
            if name in self._quanta
            else value
            for name, value in configuration.items()
        }

    def resolve(self, configuration: Configuration, *, constants: bool) -> dict[str, Any]:
        """Return the tree for a configuration.

        Args:
            configuration: A configuration with all active hyperparameters.
            constants: Whether to include constants beside the domains. Those within lists and
                within chosen dictionaries always are.
        """
        return _resolve(self._root, configuration, constants)

    def read(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration in a tree, or in a flat ``{"model/lr": ...}``.

        Hyperparameters that it lacks are left out, and so is what is not in the space, such as
        an object in place of a number.
        """
        configuration: dict[str, Any] = {}
        _read(self._root, nested(tree), configuration)
        return configuration

    def unreadable(self, tree: Mapping[str, Any]) -> list[str]:
        """Return where a tree, nested or flat, has what is no value of the space's."""
        return list(_unreadable(self._root, nested(tree), ()))

    def overlaid(self, resolved: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
        """Return a resolved configuration with all that a nested tree says besides.

        Values of hyperparameters become Python's own; what is unreadable is left out, so that
        ``read`` returns of the result what it returns of the tree.
        """
        return _overlaid(self._root, resolved, tree)


def nested(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree with keys split at each ``/``.

    Raises:
        ValueError: For a key that is a value and a group of values.
    """
    result: dict[str, Any] = {}
    for key, value in tree.items():
        path = key.split(SEPARATOR) if isinstance(key, str) else [key]
        place: dict[str, Any] = result
        for part in path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ValueError(f"{key!r}: {part!r} is both a value and a group of values")
        if isinstance(value, Mapping):
            known = place.get(path[-1])
            inner = nested(value)
            value = merged(known, inner) if isinstance(known, Mapping) else inner
        place[path[-1]] = value
    return result


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both trees as one; where they differ, ``above`` counts."""
    result = dict(below)
    for key, value in above.items():
        known = result.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            value = merged(known, value)
        result[key] = value
    return result


# ---- tree -> nodes -------------------------------------------------------------------------


@dataclass
class _Collected:
    """The hyperparameters collected from a tree so far."""

    distributions: dict[str, BaseDistribution] = field(default_factory=dict)
    conditions: dict[str, Condition] = field(default_factory=dict)
    quanta: dict[str, float] = field(default_factory=dict)

    def node(self, value: Any, path: tuple[Any, ...], condition: Condition | None) -> _Node:
        """Return the node of a value, and collect the hyperparameters in it."""
        name = _name(path)
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
                if all(isinstance(child, _Constant) for child in children.values()):
                    return _Constant(value)
                return _Branch(type(value), children)
        return _Constant(value)

    def _choice(
        self, categories: Sequence[Any], path: tuple[Any, ...], condition: Condition | None
    ) -> _Choice:
        key = _distinguishing_key(categories)
        labels = _labels(categories, key)
        name = _name(path if key is None else (*path, key))
        leaf = self._leaf(name, CategoricalDistribution(tuple(labels)), condition, None)
        options = [
            (label, self.node(category, path, Condition(leaf.name, choices=(label,))))
            for label, category in zip(labels, categories, strict=True)
        ]
        return _Choice(leaf.name, tuple(options))

    def _leaf(
        self,
        name: str,
        distribution: BaseDistribution,
        condition: Condition | None,
        quantum: float | None,
    ) -> _Leaf:
        name = self._unique_name(name, distribution, condition, quantum)
        self.distributions[name] = distribution
        if condition is not None:
            known = self.conditions.get(name)
            choices = (*(known.choices if known else ()), *condition.choices)
            self.conditions[name] = Condition(condition.parent, choices=choices)
        if quantum is not None:
            self.quanta[name] = quantum
        return _Leaf(name)

    def _unique_name(
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

    def check_keys(self, node: _Node, path: tuple[Any, ...]) -> None:
        """Raise ``ValueError`` for keys above domains that contain the separator."""
        match node:
            case _Branch():
                for key, child in node.children.items():
                    if SEPARATOR in str(key) and not isinstance(child, _Constant):
                        raise ValueError(
                            f"the key {key!r} of the search space contains {SEPARATOR!r}, which "
                            "Ray Tune puts between the levels of nested spaces; rename or nest it"
                        )
                    self.check_keys(child, (*path, key))
            case _Choice():
                for _, option in node.options:
                    self.check_keys(option, path)


def _name(path: tuple[Any, ...]) -> str:
    return SEPARATOR.join(map(str, path))


def _distinguishing_key(categories: Sequence[Any]) -> str | None:
    """Return the first key whose constants differ between all dictionaries; None without."""
    if not all(isinstance(category, dict) for category in categories):
        return None
    for key in categories[0]:
        values = [category.get(key, _MISSING) for category in categories]
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


_MISSING = object()

# ---- configurations -> trees ---------------------------------------------------------------


def _resolve(node: _Node, configuration: Configuration, constants: bool) -> Any:
    match node:
        case _Constant():
            return node.value
        case _Leaf():
            return configuration[node.name]
        case _Choice():
            label = configuration[node.name]
            return _resolve(_option(node, label), configuration, True)
    if node.kind is dict:
        return {
            key: _resolve(child, configuration, constants)
            for key, child in node.children.items()
            if constants or not isinstance(child, _Constant)
        }
    return node.kind(_resolve(child, configuration, True) for child in node.children.values())


def _option(node: _Choice, label: Any) -> _Node:
    return next(option for other, option in node.options if _same(other, label))


def _same(one: Any, other: Any) -> bool:
    # By type as well: True is not 1.
    return choice_key(one) == choice_key(other)


# ---- trees -> configurations ---------------------------------------------------------------


def _read(node: _Node, value: Any, configuration: dict[str, Any]) -> None:
    match node:
        case _Leaf():
            scalar = plain(value)
            if isinstance(scalar, Scalar):
                configuration[node.name] = scalar
        case _Choice():
            fitting = ((label, option) for label, option in node.options if _fits(option, value))
            label, option = next(fitting, (None, None))
            if option is not None:
                configuration[node.name] = label
                _read(option, value, configuration)
        case _Branch():
            for key, child in node.children.items():
                part = _part(value, key)
                if part is not _MISSING:
                    _read(child, part, configuration)


def _fits(node: _Node, value: Any) -> bool:
    """Whether a node may resolve to a value."""
    match node:
        case _Constant():
            return _plain(node.value) == _plain(value)
        case _Branch():
            if (node.kind is dict) != isinstance(value, Mapping):
                return False
            known = all(key in node.children for key in value) if node.kind is dict else True
            parts = [(child, _part(value, key)) for key, child in node.children.items()]
            return known and all(part is _MISSING or _fits(child, part) for child, part in parts)
    return True


def _plain(value: Any) -> Any:
    """Return what can be compared: lists for tuples, as in JSON, and objects by identity."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    scalar = plain(value)
    return scalar if isinstance(scalar, Scalar) else ("object", id(value))


def _part(value: Any, key: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get(key, value.get(str(key), _MISSING))
    inside = isinstance(value, list | tuple) and isinstance(key, int) and key < len(value)
    return value[key] if inside else _MISSING


def _unreadable(node: _Node, value: Any, path: tuple[Any, ...]) -> Iterator[str]:
    match node:
        case _Leaf():
            if not isinstance(plain(value), Scalar):
                yield _name(path)
        case _Choice():
            option = next((option for _, option in node.options if _fits(option, value)), None)
            if option is None:
                yield _name(path)
            else:
                yield from _unreadable(option, value, path)
        case _Branch():
            if not _is_like(node, value):
                yield _name(path)
                return
            for key, child in node.children.items():
                part = _part(value, key)
                if part is not _MISSING:
                    yield from _unreadable(child, part, (*path, key))


def _overlaid(node: _Node | None, resolved: Any, value: Any) -> Any:
    match node:
        case _Leaf():
            scalar = plain(value)
            return scalar if isinstance(scalar, Scalar) else resolved
        case _Choice():
            option = next((option for _, option in node.options if _fits(option, value)), None)
            return resolved if option is None else _overlaid(option, resolved, value)
        case _Branch():
            if not _is_like(node, value):
                return resolved
            if node.kind is not dict:
                parts = [_part(value, key) for key in node.children]
                pairs = zip(node.children.values(), resolved, parts, strict=True)
                return node.kind(
                    known if part is _MISSING else _overlaid(child, known, part)
                    for child, known, part in pairs
                )
            keys = {str(key): key for key in node.children}
            result = dict(resolved)
            for given, part in value.items():
                key = given if given in node.children else keys.get(given, given)
                child = node.children.get(key)
                result[key] = _overlaid(child, resolved.get(key), part)
            return result
    if isinstance(resolved, Mapping) and isinstance(value, Mapping):
        return merged(resolved, value)
    return value


def _is_like(node: _Branch, value: Any) -> bool:
    """Whether a value may stand for a branch; a flat one has mappings for lists."""
    if isinstance(value, Mapping):
        return True
    is_sequence = isinstance(value, list | tuple)
    return is_sequence and node.kind is not dict and len(value) <= len(node.children)
