"""The part of the search space that the surrogate considers hopeless, by hyperparameter.

A choice, or one of some equal parts of a numerical range, is hopeless where the probability of
improvement stays below a bound at every Sobol point in it, whatever the other hyperparameters
are. It explains a decision, and the search skips hopeless choices; the next decision judges anew.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        Ranges of numerical hyperparameters, neighbouring ones joined, and choices of categorical
        ones. Hyperparameters of which
        nothing is hopeless are left out, and so are those of which everything is: they say nothing
        about where to look.
    """
    found: dict[str, Part] = {}
    for column, name in enumerate(space.names):
        active = ~np.isnan(samples[:, column])
        positions = samples[active, column]
        parts = _parts(space, column, positions, settings)
        hopeless, sampled = _hopeless_parts(parts, probabilities[active], settings)
        if hopeless.any() and not hopeless[sampled].all():
            found[name] = (
                _choices(space, column, hopeless)
                if space.is_categorical[column]
                else _ranges(space, column, hopeless, parts, positions)
            )
    return found


@dataclass(frozen=True, eq=False)
class _Parts:
    """Parts of a hyperparameter: their number, and the one that each of ``n`` positions is in."""

    count: int
    index: NDArray[np.intp]


def _parts(space: Space, column: int, positions: Array, settings: SearchSettings) -> _Parts:
    """Its levels, where they are few or choices; or else equal parts of [0, 1]."""
    levels, intervals = space.levels[column], settings.hopeless_intervals
    if space.is_categorical[column] or 0 < levels <= intervals:
        middles = space.level_positions(column)
        return _Parts(levels, np.searchsorted((middles[1:] + middles[:-1]) / 2.0, positions))
    return _Parts(intervals, np.minimum((positions * intervals).astype(int), intervals - 1))


def _hopeless_parts(
    parts: _Parts, probabilities: Array, settings: SearchSettings
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each part whether it is hopeless, and whether there are samples in it."""
    count = np.bincount(parts.index, minlength=parts.count)
    largest = np.zeros(parts.count)
    np.maximum.at(largest, parts.index, probabilities)
    hopeless = (count >= settings.hopeless_samples) & (largest < settings.hopeless_probability)
    return hopeless, count > 0


def _choices(space: Space, column: int, hopeless: NDArray[np.bool_]) -> Part:
    positions = space.level_positions(column)[hopeless]
    return Part(choices=tuple(_values(space, column, positions)))


def _ranges(
    space: Space, column: int, hopeless: NDArray[np.bool_], parts: _Parts, positions: Array
) -> Part:
    steps = np.diff(np.concatenate([[False], hopeless, [False]]).astype(int))
    runs = np.flatnonzero(steps).reshape(-1, 2)
    if space.levels[column]:
        # An edge between parts may cut a level: the outermost sampled ones within.
        within = [positions[(parts.index >= a) & (parts.index < b)] for a, b in runs]
        ends = np.array([[inside.min(), inside.max()] for inside in within])
    else:
        ends = runs / parts.count
    values = _values(space, column, ends.ravel())
    return Part(ranges=tuple(zip(values[::2], values[1::2], strict=True)))


def _values(space: Space, column: int, positions: Array) -> list[Any]:
    """The values of one hyperparameter at positions in [0, 1]."""
    points = np.full((len(positions), len(space)), np.nan)
    points[:, column] = positions
    name = space.names[column]
    return [configuration[name] for configuration in space.decode(points)]
