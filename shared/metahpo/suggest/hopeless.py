"""The part of the search space that the surrogate considers hopeless, by hyperparameter.

A choice, or one of some equal parts of a numerical range, is hopeless where the probability of
improvement stays below a bound at every Sobol point in it, whatever the other hyperparameters
are. It explains a decision: nothing is ruled out, and the next decision judges anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metahpo.settings import SearchSettings
from metahpo.suggest.decision import Part
from metahpo.tasks.space import Array, Space


def hopeless_part(
    space: Space, samples: Array, probabilities: Array, settings: SearchSettings
) -> dict[str, Part]:
    """What is hopeless of each hyperparameter.

    Args:
        space: The space.
        samples: ``m x d`` Sobol points.
        probabilities: ``m``, of improvement there.
        settings: The bound, and the number of parts.

    Returns:
        For numerical hyperparameters (low, high) ranges on their natural scale, both ends included
        and neighbouring ones joined; for categorical ones the choices. Hyperparameters of which
        nothing is hopeless are left out, and so are those of which everything is: they say nothing
        about where to look.
    """
    found: dict[str, Part] = {}
    for column, name in enumerate(space.names):
        categorical, levels = space.is_categorical[column], space.levels[column]
        by_level = categorical or 0 < levels <= settings.hopeless_intervals
        parts = levels if by_level else settings.hopeless_intervals
        hopeless = _hopeless_parts(samples[:, column], probabilities, parts, settings)
        if hopeless.any() and not hopeless.all():
            found[name] = (
                _choices(space, column, hopeless)
                if categorical
                else _ranges(space, column, hopeless, by_level)
            )
    return found


def _hopeless_parts(
    positions: Array, probabilities: Array, parts: int, settings: SearchSettings
) -> NDArray[np.bool_]:
    """``parts``: whether each equal share of [0, 1] is hopeless."""
    active = ~np.isnan(positions)
    index = np.minimum((positions[active] * parts).astype(int), parts - 1)
    count = np.bincount(index, minlength=parts)
    largest = np.zeros(parts)
    np.maximum.at(largest, index, probabilities[active])
    return (count >= settings.hopeless_samples) & (largest < settings.hopeless_probability)


def _choices(space: Space, column: int, hopeless: NDArray[np.bool_]) -> Part:
    positions = space.level_positions(column)[hopeless]
    return tuple(_values(space, column, positions))


def _ranges(space: Space, column: int, hopeless: NDArray[np.bool_], by_level: bool) -> Part:
    steps = np.diff(np.concatenate([[False], hopeless, [False]]).astype(int))
    edges = np.flatnonzero(steps).astype(float)
    if by_level:
        # From the middle of the first level to that of the last one.
        edges += np.where(np.arange(len(edges)) % 2 == 0, 0.5, -0.5)
    values = _values(space, column, edges / len(hopeless))
    return tuple(zip(values[::2], values[1::2], strict=True))


def _values(space: Space, column: int, positions: Array) -> list[Any]:
    """The values of one hyperparameter at positions in [0, 1]."""
    points = np.full((len(positions), len(space)), np.nan)
    points[:, column] = positions
    name = space.names[column]
    return [configuration[name] for configuration in space.decode(points)]
