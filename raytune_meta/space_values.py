"""Configurations to and from trees, along the nodes of a search space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from metahpo.tasks.choices import choice_key
from metahpo.tasks.space import Configuration
from raytune_meta.plain import Scalar, plain
from raytune_meta.space_nodes import (
    MISSING,
    Branch,
    Choice,
    Constant,
    Leaf,
    Node,
    path_name,
)
from raytune_meta.trees import merged

# ---- configurations -> trees ---------------------------------------------------------------


def resolved(node: Node, configuration: Configuration, constants: bool) -> Any:
    """Return the tree for a configuration; see ``SearchSpace.resolve``."""
    match node:
        case Constant():
            return node.value
        case Leaf():
            return configuration[node.name]
        case Choice():
            # By type as well: True is not 1.
            label = choice_key(configuration[node.name])
            option = next(option for other, option in node.options if choice_key(other) == label)
            return resolved(option, configuration, True)
    if node.kind is dict:
        return {
            key: resolved(child, configuration, constants)
            for key, child in node.children.items()
            if constants or not isinstance(child, Constant)
        }
    return node.kind(resolved(child, configuration, True) for child in node.children.values())


# ---- trees -> configurations ---------------------------------------------------------------


def values_in(
    node: Node, value: Any, path: tuple[Any, ...] = ()
) -> Iterator[tuple[str, str, Any]]:
    """Yield what a tree says of the hyperparameters in a node.

    Args:
        node: The node.
        value: The tree at its place.
        path: The keys that lead there.

    Yields:
        Where it stands, the hyperparameter's name, and its value as plain Python; ``MISSING`` for
        what is no value of the space's.
    """
    match node:
        case Leaf():
            scalar = plain(value)
            yield path_name(path), node.name, scalar if isinstance(scalar, Scalar) else MISSING
        case Choice():
            label, option = _fitting(node, value)
            yield path_name(path), node.name, label
            if option is not None:
                yield from values_in(option, value, path)
        case Branch() if _is_like(node, value):
            for key, child in node.children.items():
                part = _part(value, key)
                if part is not MISSING:
                    yield from values_in(child, part, (*path, key))
        case Branch():
            yield path_name(path), path_name(path), MISSING


def overlaid(node: Node | None, known: Any, value: Any) -> Any:
    """Return a resolved tree with all that another one says besides; see ``SearchSpace``."""
    match node:
        case Leaf():
            scalar = plain(value)
            return scalar if isinstance(scalar, Scalar) else known
        case Choice():
            _, option = _fitting(node, value)
            return known if option is None else overlaid(option, known, value)
        case Branch() if not _is_like(node, value):
            return known
        case Branch() if node.kind is dict:
            return _overlaid_mapping(node, known, value)
        case Branch():
            parts = [_part(value, key) for key in node.children]
            pairs = zip(node.children.values(), known, parts, strict=True)
            return node.kind(
                former if part is MISSING else overlaid(child, former, part)
                for child, former, part in pairs
            )
    if isinstance(known, Mapping) and isinstance(value, Mapping):
        return merged(known, value)
    return value


def _overlaid_mapping(node: Branch, known: Any, value: Mapping[Any, Any]) -> dict[Any, Any]:
    keys = {str(key): key for key in node.children}
    result = dict(known)
    for given, part in value.items():
        key = given if given in node.children else keys.get(given, given)
        result[key] = overlaid(node.children.get(key), known.get(key), part)
    return result


def _fitting(node: Choice, value: Any) -> tuple[Any, Node | None]:
    """Return the first option that may resolve to a value, with its label; ``MISSING`` if none."""
    options = ((label, option) for label, option in node.options if _fits(option, value))
    return next(options, (MISSING, None))


def _fits(node: Node, value: Any) -> bool:
    """Whether a node may resolve to a value."""
    match node:
        case Constant():
            return _comparable(node.value) == _comparable(value)
        case Branch():
            if (node.kind is dict) != isinstance(value, Mapping):
                return False
            known = all(key in node.children for key in value) if node.kind is dict else True
            parts = [(child, _part(value, key)) for key, child in node.children.items()]
            return known and all(part is MISSING or _fits(child, part) for child, part in parts)
    return True


def _comparable(value: Any) -> Any:
    """Return what can be compared: lists for tuples, as in JSON, and objects by identity."""
    if isinstance(value, list | tuple):
        return [_comparable(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _comparable(item) for key, item in value.items()}
    scalar = plain(value)
    return scalar if isinstance(scalar, Scalar) else ("object", id(value))


def _part(value: Any, key: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get(key, value.get(str(key), MISSING))
    inside = isinstance(value, list | tuple) and isinstance(key, int) and key < len(value)
    return value[key] if inside else MISSING


def _is_like(node: Branch, value: Any) -> bool:
    """Whether a value may stand for a branch; a flat one has mappings for lists."""
    if isinstance(value, Mapping):
        return True
    is_sequence = isinstance(value, list | tuple)
    return is_sequence and node.kind is not dict and len(value) <= len(node.children)
