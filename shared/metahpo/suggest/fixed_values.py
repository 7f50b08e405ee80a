"""Values that configurations have whatever is best: where they lie, and as they were given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from metahpo.surrogate.study_arrays import placed
from metahpo.tasks.space import Array, Space


def positions_of(space: Space, fixed: Mapping[str, Any]) -> Array:
    """``d``, positions of the fixed values; NaN where there is none or it has no place."""
    return placed(space, [fixed])[0]


def with_place(space: Space, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The fixed values that have a place in the space; no others are taken into account."""
    positions = positions_of(space, fixed)
    return {n: fixed[n] for n, at in zip(space, positions, strict=True) if not np.isnan(at)}


def decoded(space: Space, points: Array, fixed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The configurations of ``n x d`` points, with fixed values as they were given.

    On their way through the unit cube they may be rounded or clipped.
    """
    given = with_place(space, fixed)
    return [{n: given.get(n, v) for n, v in c.items()} for c in space.decode(points)]
