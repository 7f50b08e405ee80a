"""Models of the past tasks: what each of them predicts anywhere in the present space.

Each past task has a Gaussian process of its own on its scores. All share one set of
hyperparameters, fitted to several tasks at once: the hundred clustered trials of one task are
too few to fit them, and shared ones make every model a closed-form solve. The predictions are
then carried by one set of inducing points (Quinonero-Candela and Rasmussen 2005, deterministic
conditional), so that a hundred tasks cost hardly more than one at each evaluation.

A past task that does not know a hyperparameter of the present space must not say anything about
it. Its column is held constant in that task's model; tasks that know the same hyperparameters
form a group with inducing points of its own.

Notation: see ``metahpo.tasks.space``; t past tasks, m inducing points of a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky
from sklearn.ensemble import ExtraTreesRegressor
from torch import Tensor

from metahpo.surrogate.features import FeatureMap
from metahpo.surrogate.gp.kernel import (
    JITTER,
    Data,
    Hyperparameters,
    fit,
    matern52,
    matern52_tensor,
)
from metahpo.surrogate.scores import Warp, own_warp
from metahpo.tasks.alignment import AlignedTask
from metahpo.tasks.space import Array

# Tasks and trials that the shared hyperparameters are fitted to: more cost time and move them
# little.
FIT_TASKS = 12
FIT_TRIALS = 80
INDUCING_POINTS = 500
# Relative jitter of the inducing points: what keeps coinciding ones apart.
INDUCING_JITTER = 1e-5
CONSTANT = 1.0
# Share of the trees in a past task's prediction, and trees over all past tasks together.
TREE_SHARE = 0.4
TREES = 300
LEAST_TREES = 3


@dataclass(frozen=True, eq=False)
class _Group:
    """Past tasks that know the same hyperparameters.

    Attributes:
        tasks: Their indices.
        keep: p, 1 where the feature is known, 0 where it is held constant.
        constant: p, what the features that are not known are held at.
        inducing: m x p, divided by the lengthscales.
        weights: m x tasks of the group.
    """

    tasks: NDArray[np.int_]
    keep: Tensor
    constant: Tensor
    inducing: Tensor
    weights: Tensor

    def predict(self, X: Tensor, lengthscales: Tensor) -> Tensor:
        """``... x tasks of the group``: scores at ``... x p`` features."""
        known = (X * self.keep + self.constant) / lengthscales
        return (matern52_tensor(known, self.inducing) + CONSTANT) @ self.weights


class PastModels:
    """Predictions of all past tasks, in scores.

    Args:
        tasks: ``t`` past tasks, thinned; at least one.
        features: Of the space that the tasks are aligned to.
        seed: Of the choice of inducing points.
    """

    def __init__(
        self, tasks: Sequence[AlignedTask], features: FeatureMap, *, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self._seed = seed
        self.features = features
        self.tasks = tuple(tasks)
        self.warps: tuple[Warp, ...] = tuple(own_warp(task.values) for task in self.tasks)
        self.data = [
            Data(features.of_task(task), warp.scores(task.values))
            for task, warp in zip(self.tasks, self.warps, strict=True)
        ]
        self.hyperparameters = _shared_fit(self.data, features.owner, rng)
        self.lengthscales = self.hyperparameters.feature_lengthscales(features.owner)
        self._scale = torch.as_tensor(self.lengthscales)
        self._groups = [self._group(indices, rng) for indices in _by_shared(self.tasks)]
        order = np.concatenate([group.tasks for group in self._groups])
        self._order = torch.as_tensor(np.argsort(order))

    def __len__(self) -> int:
        return len(self.tasks)

    def __call__(self, X: Tensor) -> Tensor:
        """Differentiable predictions.

        Args:
            X: ``... x p`` features.

        Returns:
            ``... x t`` scores.
        """
        blocks = [group.predict(X, self._scale) for group in self._groups]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, -1)[..., self._order]

    def predict(self, points: Array) -> Array:
        """Predictions.

        Args:
            points: ``n x d``.

        Returns:
            ``n x t`` scores.
        """
        with torch.no_grad():
            return self(self.features(torch.as_tensor(points))).numpy()

    def _group(self, indices: NDArray[np.int_], rng: np.random.Generator) -> _Group:
        keep = self.features.shared_by(self.tasks[indices[0]])
        constant = np.where(keep, 0.0, self.features.constant)
        data = [self.data[index] for index in indices]
        inducing = _choose_rows(np.concatenate([task.X for task in data]), INDUCING_POINTS, rng)
        predicted = np.stack([self._at(inducing, task) for task in data], axis=1)
        predicted += TREE_SHARE * (self._trees_at(inducing, data) - predicted)
        gram = matern52(inducing, inducing, self.lengthscales) + CONSTANT
        gram[np.diag_indices_from(gram)] += INDUCING_JITTER
        weights = cho_solve((cholesky(gram, lower=True), True), predicted)
        return _Group(
            indices,
            torch.as_tensor(keep, dtype=torch.float64),
            torch.as_tensor(constant),
            torch.as_tensor(inducing / self.lengthscales),
            torch.as_tensor(weights),
        )

    def _trees_at(self, X: Array, data: Sequence[Data]) -> Array:
        """M x tasks: predictions of extremely randomised trees (Geurts et al. 2006)."""
        count = max(LEAST_TREES, TREES // len(self.tasks))
        columns = []
        for task in data:
            trees = ExtraTreesRegressor(count, random_state=self._seed)
            columns.append(trees.fit(task.X, task.y).predict(X))
        return np.stack(columns, axis=1)

    def _at(self, X: Array, task: Data) -> Array:
        """The exact posterior mean of one past task at n points."""
        signal, noise = self.hyperparameters.signal, self.hyperparameters.noise
        gram = signal * matern52(task.X, task.X, self.lengthscales) + CONSTANT
        gram[np.diag_indices_from(gram)] += noise + JITTER
        cross = signal * matern52(X, task.X, self.lengthscales) + CONSTANT
        return cross @ cho_solve((cholesky(gram, lower=True), True), task.y)


def _by_shared(tasks: Sequence[AlignedTask]) -> list[NDArray[np.int_]]:
    """Tasks' indices by the hyperparameters that they have, in order of first appearance."""
    groups: dict[bytes, list[int]] = {}
    for index, task in enumerate(tasks):
        groups.setdefault(task.shared.tobytes(), []).append(index)
    return [np.asarray(group) for group in groups.values()]


def _shared_fit(
    data: list[Data], owner: tuple[int, ...], rng: np.random.Generator
) -> Hyperparameters:
    chosen = rng.permutation(len(data))[:FIT_TASKS]
    sample = []
    for index in chosen:
        task = data[index]
        rows = rng.permutation(len(task.y))[:FIT_TRIALS]
        sample.append(Data(task.X[rows], task.y[rows]))
    return fit(sample, owner, max_iterations=40)


def _choose_rows(X: Array, count: int, rng: np.random.Generator) -> Array:
    """Distinct rows, at most ``count`` of them."""
    distinct = np.unique(X, axis=0)
    if len(distinct) <= count:
        return distinct
    return distinct[np.sort(rng.permutation(len(distinct))[:count])]
