"""All configurations of a small discrete space, each once."""

from __future__ import annotations

import numpy as np

from metahpo.tasks.space import Array, Space


def cells(space: Space, held: Array, most: int) -> Array | None:
    """Every configuration that a space has.

    Hyperparameters are filled in one after the other, parents first, so that what a condition
    rules out is not counted: a tree of choices may have few leaves where the product of all levels
    is large.

    Args:
        space: The space, with its conditions.
        held: d, positions that are given (``Space.canonical``).
        most: How many may be listed.

    Returns:
        ``n x d`` points in canonical form, n from 1 to ``most``; None where there are more, as
        with an active continuous hyperparameter.
    """
    points = space.canonical(np.full((1, len(space)), np.nan), held)
    for name in space.parents_first:
        column = space.names.index(name)
        active = ~np.isnan(points[:, column])
        if not np.isnan(held[column]) or not active.any():
            continue
        levels, count = space.levels[column], int(active.sum())
        if not levels or len(points) + count * (levels - 1) > most:
            return None
        grown = np.repeat(points[active], levels, axis=0)
        grown[:, column] = np.tile(space.level_positions(column), count)
        points = space.canonical(np.concatenate([points[~active], grown]), held)
    return points
