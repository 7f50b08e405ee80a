"""Search-space pruning: the part of the space where past tasks had their best trials.

The idea of Perrone et al. 2019, "Learning search spaces for Bayesian optimization", with
weighted quantiles instead of the hull, so that an odd task among many does not undo it, and with
a way back: the box opens where the present task's best trials press against its edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metahpo.tasks.alignment import AlignedTask
from metahpo.tasks.space import Array, Space

# The best share of a past task's trials, and the quantiles of them that the box spans.
BEST_SHARE = 0.1
QUANTILES = (0.05, 0.95)
# Room beyond the quantiles, and the strip at an edge where a best trial presses against it.
MARGIN = 0.1
PRESSING = 0.05
# The present task's best trials that may press.
BEST_TRIALS = 3
# A choice that has this share of the weight of the best past trials stays.
CHOICE_SHARE = 0.02


@dataclass(frozen=True, eq=False)
class Box:
    """Part of the unit cube.

    Attributes:
        low: d.
        high: d.
        choices: For each categorical column, which choices are left.
    """

    low: Array
    high: Array
    choices: dict[int, NDArray[np.bool_]]

    @classmethod
    def full(cls, space: Space) -> Box:
        """The whole cube."""
        choices = {
            column: np.ones(space.levels[column], dtype=bool)
            for column, categorical in enumerate(space.is_categorical)
            if categorical
        }
        return cls(np.zeros(len(space)), np.ones(len(space)), choices)

    def place(self, points: Array) -> Array:
        """Points of the unit cube carried over into the box.

        Args:
            points: n x d; NaN stays.
        """
        placed = self.low + points * (self.high - self.low)
        for column, left in self.choices.items():
            positions = (np.flatnonzero(left) + 0.5) / len(left)
            index = np.minimum(
                (np.nan_to_num(points[:, column]) * len(positions)).astype(int), len(positions) - 1
            )
            placed[:, column] = np.where(np.isnan(points[:, column]), np.nan, positions[index])
        return placed

    def clip(self, points: Array) -> Array:
        """Points moved to the nearest of the box in each numerical column; NaN stays."""
        return np.clip(points, self.low, self.high)

    def allows(self, column: int, choice: int) -> bool:
        """Whether a choice of a categorical column is left."""
        return bool(self.choices[column][choice])


def promising_box(tasks: Sequence[AlignedTask], weights: Array, space: Space) -> Box:
    """Where the weighted past tasks had their best trials.

    Args:
        tasks: t past tasks, aligned.
        weights: t.
        space: The present space.
    """
    box = Box.full(space)
    points, mass = _best_points(tasks, weights)
    for column in range(len(space)):
        active = ~np.isnan(points[:, column])
        if not active.any():
            continue
        positions, share = points[active, column], mass[active]
        if space.is_categorical[column]:
            box.choices[column][:] = _frequent(positions, share, space.levels[column])
        else:
            low, high = _weighted_quantiles(positions, share)
            box.low[column] = np.clip(low - MARGIN, 0.0, 1.0 - MARGIN)
            box.high[column] = np.clip(high + MARGIN, MARGIN, 1.0)
    return box


def widen(box: Box, points: Array, values: Array, space: Space) -> Box:
    """The box opened on the sides that the best trials press against.

    Args:
        box: The promising box.
        points: n x d trials of the present task.
        values: n.
        space: The present space.
    """
    best = points[np.argsort(-values, kind="stable")[:BEST_TRIALS]]
    low, high = box.low.copy(), box.high.copy()
    choices = {column: left.copy() for column, left in box.choices.items()}
    for column in range(len(space)):
        positions = best[~np.isnan(best[:, column]), column]
        if not len(positions):
            continue
        if column in choices:
            count = len(choices[column])
            choices[column][np.minimum((positions * count).astype(int), count - 1)] = True
            continue
        if positions.min() < low[column] + PRESSING:
            low[column] = 0.0
        if positions.max() > high[column] - PRESSING:
            high[column] = 1.0
    return Box(low, high, choices)


def natural_bounds(box: Box, space: Space) -> dict[str, tuple[float, float]]:
    """The numerical ranges that the box narrows, on their natural scale."""
    narrowed = {}
    for column, name in enumerate(space.names):
        if space.is_categorical[column] or box.high[column] - box.low[column] > 1.0 - 1e-9:
            continue
        low, high = space.decode(np.stack([box.low, box.high]))
        narrowed[name] = (float(low[name]), float(high[name]))
    return narrowed


def _best_points(tasks: Sequence[AlignedTask], weights: Array) -> tuple[Array, Array]:
    """The best trials of all tasks and their weights, each task's summing to its own."""
    points, mass = [], []
    for task, weight in zip(tasks, weights, strict=True):
        count = max(1, round(BEST_SHARE * len(task.values)))
        points.append(np.clip(task.points[np.argsort(-task.values, kind="stable")[:count]], 0, 1))
        mass.append(np.full(count, weight / count))
    return np.concatenate(points), np.concatenate(mass)


def _weighted_quantiles(positions: Array, mass: Array) -> tuple[float, float]:
    order = np.argsort(positions)
    cumulated = np.cumsum(mass[order]) / mass.sum()
    low, high = (
        float(positions[order[min(int(np.searchsorted(cumulated, q)), len(order) - 1)]])
        for q in QUANTILES
    )
    return low, high


def _frequent(positions: Array, mass: Array, levels: int) -> NDArray[np.bool_]:
    indices = np.minimum((positions * levels).astype(int), levels - 1)
    shares = np.bincount(indices, weights=mass, minlength=levels) / mass.sum()
    # Of many choices the most frequent one must stay, however little it has.
    return shares >= min(CHOICE_SHARE, 0.5 / levels)
