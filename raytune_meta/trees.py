"""Trees of dictionaries, as Ray keeps configurations and results: nested, or flat with ``/``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_meta.folders import SEPARATOR


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
