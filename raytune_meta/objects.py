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
