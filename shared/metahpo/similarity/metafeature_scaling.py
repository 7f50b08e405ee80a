"""Meta-features of several tasks as one table on comparable scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import ndtri

from metahpo.tasks.space import Array

# Fraction of the past tasks that must have a meta-feature for it to be used.
MINIMUM_COVERAGE = 0.5
# Absolute correlation above which two meta-features count as duplicates.
DUPLICATE_CORRELATION = 0.995


class Standardiser:
    """Normal scores of meta-features: ranks among the past tasks, mapped to a standard normal.

    Meta-features differ in scale by powers of ten and have long tails; their ranks do not.
    A new task's value is interpolated between those of the past tasks and clamped to their
    range.

    Args:
        past: Meta-features of t past tasks, by name; absent, NaN and infinite values are
            treated as unknown.

    Attributes:
        names: The f meta-features that at least half of the tasks have and that vary, without
            duplicates of another one.
        table: `t x f`, mean 0 and deviation 1 over the known values of a column, NaN where
            unknown.
    """

    def __init__(self, past: Sequence[Mapping[str, float]]) -> None:
        self.names: tuple[str, ...] = ()
        columns: list[Array] = []
        self._curves: list[tuple[Array, Array]] = []
        for name in dict.fromkeys(name for task in past for name in task):
            values = np.array([_number(task.get(name)) for task in past])
            curve = _score_curve(values)
            if curve is None:
                continue
            column = _interpolated(values, curve)
            if not any(_is_duplicate(column, other) for other in columns):
                self.names += (name,)
                columns.append(column)
                self._curves.append(curve)
        self.table = np.stack(columns, axis=1) if columns else np.empty((len(past), 0))

    def __call__(self, task: Mapping[str, float]) -> Array:
        """Return the scores of a task, `f`, NaN where unknown."""
        return np.array(
            [
                float(_interpolated(np.array([_number(task.get(name))]), curve)[0])
                for name, curve in zip(self.names, self._curves, strict=True)
            ]
        )


def _score_curve(values: Array) -> tuple[Array, Array] | None:
    """Distinct values and their normal scores; None for a meta-feature that is not used."""
    known = values[~np.isnan(values)]
    distinct, inverse, counts = np.unique(known, return_inverse=True, return_counts=True)
    if len(known) < MINIMUM_COVERAGE * len(values) or len(distinct) < 2:
        return None
    # Equal values share the middle of their ranks.
    middle = (np.cumsum(counts) - 0.5 * counts) / len(known)
    scores = ndtri(middle)
    spread = float(np.sqrt(np.mean((scores[inverse] - scores[inverse].mean()) ** 2)))
    return distinct, (scores - scores[inverse].mean()) / spread


def _number(value: float | None) -> float:
    return float(value) if value is not None and np.isfinite(value) else np.nan


def _interpolated(values: Array, curve: tuple[Array, Array]) -> Array:
    scores = np.interp(values, *curve)
    return np.where(np.isnan(values), np.nan, scores)


def _is_duplicate(a: Array, b: Array) -> bool:
    known = ~np.isnan(a) & ~np.isnan(b)
    if not np.array_equal(np.isnan(a), np.isnan(b)) or known.sum() < 3:
        return False
    x, y = a[known] - a[known].mean(), b[known] - b[known].mean()
    norms = float(np.sqrt((x @ x) * (y @ y)))
    return norms > 0 and abs(float(x @ y)) > DUPLICATE_CORRELATION * norms
