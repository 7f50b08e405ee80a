"""Kernel group lasso as a similarity: selects meta-features that predict rankings.

The lasso (``group_lasso``, ``regularisation_path``) selects meta-features; a kernel ridge
regression on them gives the weights of the past tasks.

Notation: t past tasks, m configurations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from metahpo.similarity.group_lasso import TINY
from metahpo.similarity.metafeature_scaling import Standardiser
from metahpo.similarity.regularisation_path import regularisation_path
from metahpo.tasks.space import Array


class KGLasso:
    """Weights by a kernel ridge regression on the meta-features that a group lasso selects.

    Args:
        cautious: Whether to select few meta-features; see ``Path.best``.
        shrinkage: Fraction of the total weight that is spread equally over all tasks.
    """

    def __init__(self, *, cautious: bool = True, shrinkage: float = 0.0) -> None:
        self._cautious, self._shrinkage = cautious, shrinkage

    def fit(self, past: Sequence[Mapping[str, float]], performance: Array) -> Self:
        """Select meta-features.

        Args:
            past: Meta-features of the t past tasks, by name.
            performance: `t x m`, on comparable scales; larger is better.
        """
        self._standardiser = Standardiser(past)
        table = np.nan_to_num(self._standardiser.table)
        self._count = len(table)
        self._selected = np.empty(0, int)
        self._columns = [FeatureKernel(column) for column in table.T]
        centred = performance - performance.mean(axis=0)
        if self._columns and self._count > 2 and np.abs(centred).max(initial=0.0) > 0:
            self._select(np.stack([column.gram for column in self._columns]), centred)
        return self

    def _select(self, kernels: Array, centred: Array) -> None:
        """Choose a penalty and keep its meta-features and the inverse of its ridge system."""
        path = regularisation_path(kernels, centred)
        index = path.best(cautious=self._cautious)
        self._norms = path.norms[index]
        self._selected = np.flatnonzero(self._norms > 0)
        ridge = path.ridges[index] * np.eye(self._count)
        self._inverse = np.linalg.inv(kernels[self._selected].sum(axis=0) + ridge)

    @property
    def importance(self) -> dict[str, float]:
        """The selected meta-features with their shares of the group norms, largest first."""
        if not len(self._selected):
            return {}
        shares = self._norms / self._norms.sum()
        order = self._selected[np.argsort(-shares[self._selected], kind="stable")]
        return {self._standardiser.names[index]: float(shares[index]) for index in order}

    def weights(self, present: Mapping[str, float]) -> Array:
        """Return `t` weights that sum to 1: a row of the smoother, with negative entries."""
        mean = np.full(self._count, 1.0 / self._count)
        if not len(self._selected):
            return mean
        own = np.nan_to_num(self._standardiser(present))
        cross = sum(self._columns[index].cross(own[index]) for index in self._selected)
        smoothed = np.asarray(cross) @ self._inverse
        return mean + (1.0 - self._shrinkage) * (smoothed - smoothed.mean())


class FeatureKernel:
    """Gaussian kernel on one meta-feature, centred and scaled to Frobenius norm 1.

    The bandwidth is the median distance between tasks. Equal norms put all meta-features on an
    equal footing under the penalty.

    Args:
        values: `t`, not all equal.

    Attributes:
        gram: `t x t`, the kernel between the tasks.
    """

    def __init__(self, values: Array) -> None:
        self._values = values
        distances = np.abs(values[:, None] - values)
        pairs = distances[np.triu_indices(len(values), k=1)]
        # If most pairs are equal, the median distance of those that differ.
        self._bandwidth = float(np.median(pairs) or np.median(pairs[pairs > 0]))
        raw = np.exp(-(distances**2) / (2.0 * self._bandwidth**2))
        self._means = raw.mean(axis=0)
        centred = raw - self._means - self._means[:, None] + self._means.mean()
        self._norm = max(float(np.linalg.norm(centred)), TINY)
        self.gram = centred / self._norm

    def cross(self, value: float) -> Array:
        """Return the kernel between a new task with this value and the t tasks, `t`."""
        raw = np.exp(-((self._values - value) ** 2) / (2.0 * self._bandwidth**2))
        return (raw - raw.mean() - self._means + self._means.mean()) / self._norm
