"""Meta-features of several tasks as one table, on comparable scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import ndtri

from metahpo.tasks.space import Array

# A meta-feature that fewer of the past tasks have says too little, and two that agree to this
# correlation say the same.
KNOWN_SHARE = 0.5
SAME = 0.995


class Standardiser:
    """Normal scores of the ranks among past tasks.

    Meta-features differ in scale by powers of ten and have long tails; their ranks do neither.
    A new task's value is put between its neighbours', at most at the ends.

    Args:
        past: t past tasks' meta-features; what a task lacks, or has as NaN or infinity, is
            unknown.

    Attributes:
        names: f meta-features that at least half of the tasks have and that vary, without
            those that repeat another.
        table: t x f, NaN where unknown.
    """

    def __init__(self, past: Sequence[Mapping[str, float]]) -> None:
        self.names: tuple[str, ...] = ()
        columns: list[Array] = []
        self._curves: list[tuple[Array, Array]] = []
        for name in dict.fromkeys(name for task in past for name in task):
            values = np.array([_number(task.get(name)) for task in past])
            known = values[~np.isnan(values)]
            distinct, inverse, counts = np.unique(known, return_inverse=True, return_counts=True)
            if len(known) < KNOWN_SHARE * len(past) or len(distinct) < 2:
                continue
            # Equal values share the middle of their ranks.
            middle = (np.cumsum(counts) - 0.5 * counts) / len(known)
            scores = ndtri(middle)
            spread = float(np.sqrt(np.mean((scores[inverse] - scores[inverse].mean()) ** 2)))
            curve = (distinct, (scores - scores[inverse].mean()) / spread)
            column = _interpolated(values, curve)
            if not any(_repeats(column, other) for other in columns):
                self.names += (name,)
                columns.append(column)
                self._curves.append(curve)
        self.table = np.stack(columns, axis=1) if columns else np.empty((len(past), 0))

    def __call__(self, task: Mapping[str, float]) -> Array:
        """A task's f scores, NaN where unknown."""
        return np.array(
            [
                float(_interpolated(np.array([_number(task.get(name))]), curve)[0])
                for name, curve in zip(self.names, self._curves, strict=True)
            ]
        )


def _number(value: float | None) -> float:
    return float(value) if value is not None and np.isfinite(value) else np.nan


def _interpolated(values: Array, curve: tuple[Array, Array]) -> Array:
    placed = np.interp(values, *curve)
    return np.where(np.isnan(values), np.nan, placed)


def _repeats(a: Array, b: Array) -> bool:
    known = ~np.isnan(a) & ~np.isnan(b)
    if not np.array_equal(np.isnan(a), np.isnan(b)) or known.sum() < 3:
        return False
    x, y = a[known] - a[known].mean(), b[known] - b[known].mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return size > 0 and abs(float(x @ y)) > SAME * size
