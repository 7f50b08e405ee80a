"""Functions and objects in a search space: taken out of it, and put back into trials.

Ray does this to ``param_space``; a space of the searcher's own is treated alike. What is taken out
is named by Ray's placeholders. They are put back here: Ray's own way fails where a choice holds
objects and dictionaries.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ray.tune.impl.placeholder import create_resolvers_map, inject_placeholders

# What Ray's placeholders of functions (``tune.sample_from``) begin with.
_FUNCTION = "__fn_ph"


def take_out(tree: Mapping[str, Any]) -> tuple[dict[str, Any], dict[Any, Any]]:
    """The tree with placeholders for functions and objects, and what they stand for."""
    resolvers = create_resolvers_map()
    plain: Any = inject_placeholders(copy.deepcopy(dict(tree)), resolvers)
    taken = {found.get_placeholder(): found for group in resolvers.values() for found in group}
    return plain, taken


def put_back(tree: Mapping[str, Any], taken: Mapping[Any, Any]) -> dict[str, Any]:
    """The tree with the objects, and then with what the functions make of it."""
    objects = {key: found for key, found in taken.items() if key[0] != _FUNCTION}
    functions = {key: found for key, found in taken.items() if key[0] == _FUNCTION}
    resolved = _replaced(tree, {key: found.resolve for key, found in objects.items()})
    calls = {key: _called(found, resolved) for key, found in functions.items()}
    return _replaced(resolved, calls)


def _called(found: Any, tree: Any) -> Any:
    return lambda: found.resolve(tree)


def _replaced(tree: Any, made: Mapping[Any, Any]) -> Any:
    if isinstance(tree, Mapping):
        return {key: _replaced(value, made) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_replaced(item, made) for item in tree]
    if isinstance(tree, tuple):
        is_placeholder = len(tree) == 2 and all(isinstance(part, str) for part in tree)
        if is_placeholder and tree in made:
            return made[tree]()
        return tuple(_replaced(item, made) for item in tree)
    return tree
