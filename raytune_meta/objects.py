"""Functions and objects in a search space: taken out of it, and put back into trials.

Ray does this to ``param_space``; a space given to ``MetaSearch`` is treated alike. Both are put
back here: Ray's own way fails where a choice holds objects and dictionaries.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from raytune_meta._ray import Placeholder, is_function, resolve, take_out_objects
from raytune_meta.plain import plain_tree


def take_out(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[Placeholder, Any]]:
    """Return the tree with placeholders for functions and objects, and what they stand for."""
    return take_out_objects(plain_tree(tree))


def put_back(tree: Mapping[str, Any], taken: Mapping[Placeholder, Any]) -> dict[str, Any]:
    """Return the tree with its objects, and then with the results of its functions."""
    resolved: Any = tree
    for functions in (False, True):
        calls = {
            placeholder: partial(resolve, resolver, placeholder, resolved)
            for placeholder, resolver in taken.items()
            if is_function(placeholder) is functions
        }
        resolved = _replaced(resolved, calls)
    return resolved


def with_placeholders(tree: Any, taken: Mapping[Placeholder, Any]) -> Any:
    """Return a tree in which placeholders stand for the objects that they were taken for."""
    of_object: dict[int, Placeholder] = {}
    for placeholder, resolver in taken.items():
        if not is_function(placeholder):
            of_object.setdefault(id(resolve(resolver, placeholder, {})), placeholder)
    return _with_placeholders(tree, of_object)


def _with_placeholders(tree: Any, of_object: Mapping[int, Placeholder]) -> Any:
    if id(tree) in of_object:
        return of_object[id(tree)]
    if isinstance(tree, Mapping):
        return {key: _with_placeholders(value, of_object) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        items = [_with_placeholders(item, of_object) for item in tree]
        return items if isinstance(tree, list) else tuple(items)
    return tree


def _replaced(tree: Any, calls: Mapping[Placeholder, Any]) -> Any:
    """Return a tree with placeholders replaced by the results of their calls."""
    if isinstance(tree, Mapping):
        return {key: _replaced(value, calls) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_replaced(item, calls) for item in tree]
    if isinstance(tree, tuple):
        is_placeholder = len(tree) == 2 and all(isinstance(part, str) for part in tree)
        if is_placeholder and tree in calls:
            return calls[tree]()
        return tuple(_replaced(item, calls) for item in tree)
    return tree
