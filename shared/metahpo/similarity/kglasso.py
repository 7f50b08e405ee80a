"""Kernel group lasso: which meta-features say how tasks rank configurations (Deng & Xiao 2024).

Each meta-feature has a kernel of its own between the t tasks, and the performance of m
configurations is explained by as few of them as suffice:

    min over A_1 .. A_P of  1/2 ||Y - sum_p K_p A_p||_F^2 + lambda sum_p ||A_p||_F

Whole groups, hence meta-features, drop out. Solved by FISTA (Beck & Teboulle 2009) with
restarts (O'Donoghue & Candes 2015), from the strongest penalty down, each solution starting
from the one before.

Notation: P meta-features, t tasks, m columns of Y.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metahpo.similarity.description import Standardiser
from metahpo.tasks.space import Array

TOLERANCE = 1e-6
MAXIMUM_ITERATIONS = 2000
# The path: penalties from the one that leaves nothing to this share of it.
PATH_LENGTH = 24
PATH_END = 0.02
# Weaker penalties are not tried once as many have done worse than the best.
PATIENCE = 5
# Of the performances' variation, what the path is computed on; the rest is mostly noise.
KEPT = 0.95
# Penalties of the refit that are tried, relative to its kernel's largest eigenvalue.
RIDGES = np.geomspace(1e-3, 1e2, 16)


def objective(kernels: Array, Y: Array, A: Array, penalty: float) -> float:
    """The value of the kernel group lasso's objective.

    Args:
        kernels: P x t x t, symmetric.
        Y: t x m.
        A: P x t x m.
        penalty: lambda.
    """
    residual = Y - np.matmul(kernels, A).sum(axis=0)
    return float(0.5 * (residual**2).sum() + penalty * _norms(A).sum())


def solve(
    kernels: Array,
    Y: Array,
    penalty: float,
    *,
    start: Array | None = None,
    tolerance: float = TOLERANCE,
    maximum_iterations: int = MAXIMUM_ITERATIONS,
) -> Array:
    """The minimiser, by FISTA over the groups that are not zero.

    Groups that the optimality conditions leave at zero are not computed with; they are looked
    at again once the others have converged.

    Args:
        kernels: P x t x t, symmetric.
        Y: t x m.
        penalty: lambda, above 0.
        start: P x t x m, a first guess.
        tolerance: Of the change in an iteration, relative to the size of the solution.
        maximum_iterations: Of FISTA, for each set of groups.

    Returns:
        P x t x m.
    """
    A = np.zeros((len(kernels), *Y.shape)) if start is None else start.copy()
    active = _norms(A) > 0
    while True:
        chosen = np.flatnonzero(active)
        if len(chosen):
            A[chosen] = _fista(
                kernels[chosen], Y, penalty, A[chosen], tolerance, maximum_iterations
            )
        residual = Y - np.matmul(kernels[chosen], A[chosen]).sum(axis=0)
        violating = _norms(np.matmul(kernels, residual)) > penalty * (1.0 + 1e-9)
        if not (violating & ~active).any():
            return A
        active |= violating


def strongest_penalty(kernels: Array, Y: Array) -> float:
    """The smallest lambda at which every group is zero."""
    return float(_norms(np.matmul(kernels, Y)).max(initial=0.0))


def penalties(kernels: Array, Y: Array) -> Array:
    """The path's penalties, from the one that leaves nothing downwards, in equal ratios."""
    strongest = strongest_penalty(kernels, Y)
    return strongest * np.geomspace(1.0, PATH_END, PATH_LENGTH)


@dataclass(frozen=True, eq=False)
class Path:
    """Solutions along the path.

    Attributes:
        penalties: L, descending.
        norms: L x P, the groups' norms ||A_p||_F.
        errors: L x t, squared error of the prediction for each task when it is left out of a
            kernel ridge regression on the selected meta-features.
        ridges: L, the ridge penalty of that regression.
    """

    penalties: Array
    norms: Array
    errors: Array
    ridges: Array

    def best(self, *, cautious: bool = True) -> int:
        """The penalty of the smallest error with a task left out.

        Args:
            cautious: Whether to take the strongest penalty within a standard error of it
                (Breiman et al. 1984), which selects fewer meta-features.
        """
        best = int(np.argmin(self.errors.mean(axis=1)))
        if not cautious:
            return best
        excess = self.errors - self.errors[best]
        deviation = excess.std(axis=1) / np.sqrt(self.errors.shape[1])
        return int(np.flatnonzero(excess.mean(axis=1) <= deviation)[0])


def regularisation_path(kernels: Array, Y: Array, *, tolerance: float = 1e-4) -> Path:
    """Solutions for all tasks, and errors with each task left out.

    The lasso shrinks what it selects, so that its own error calls for weak penalties that let
    in noise. Each selection is therefore judged after a refit without the shrinkage: a kernel
    ridge regression on the sum of the selected kernels, whose error with a task left out has a
    closed form (Allen 1974, PRESS). The selection itself is made with all tasks.

    Args:
        kernels: P x t x t.
        Y: t x m, columns of mean 0.
        tolerance: As in ``solve``.
    """
    reduced = compress(Y, KEPT)
    lambdas = penalties(kernels, reduced)
    A = np.zeros((len(kernels), *reduced.shape))
    norms, errors, ridges = [], [], []
    for penalty in lambdas:
        A = solve(kernels, reduced, penalty, start=A, tolerance=tolerance)
        norms.append(_norms(A))
        error, ridge = left_out_errors(kernels[norms[-1] > 0].sum(axis=0), reduced)
        errors.append(error)
        ridges.append(ridge)
        if len(errors) - 1 - np.argmin([e.sum() for e in errors]) >= PATIENCE:
            break
    return Path(lambdas[: len(norms)], np.stack(norms), np.stack(errors), np.array(ridges))


def left_out_errors(kernel: Array, Y: Array) -> tuple[Array, float]:
    """Squared errors with each task left out of a kernel ridge regression, and its penalty.

    Args:
        kernel: t x t, centred.
        Y: t x m, columns of mean 0.

    Returns:
        t, of the ridge penalty with the smallest sum; and that penalty.
    """
    values, vectors = np.linalg.eigh(kernel)
    rotated = vectors.T @ Y
    largest = max(float(values[-1]), 1e-12)
    found: list[tuple[float, float, Array]] = []
    for ridge in RIDGES * largest:
        share = np.maximum(values, 0.0) / (np.maximum(values, 0.0) + ridge)
        residual = Y - vectors @ (share[:, None] * rotated)
        # The columns' means are estimated with the task as well: 1 / t of its leverage.
        left = 1.0 - (vectors**2) @ share - 1.0 / len(Y)
        errors = ((residual / np.maximum(left, 1e-3)[:, None]) ** 2).sum(axis=1)
        found.append((float(errors.sum()), float(ridge), errors))
    _, ridge, errors = min(found, key=lambda entry: entry[0])
    return errors, ridge


def compress(Y: Array, share: float = 1.0) -> Array:
    """Y (t x m) in its principal directions: a rotation, which leaves all norms as they are.

    Args:
        Y: t x m.
        share: Of the sum of squares, how much the directions that are kept hold.
    """
    left, values, _ = np.linalg.svd(Y, full_matrices=False)
    held = np.cumsum(values**2) / max(float((values**2).sum()), 1e-300)
    rank = int(np.searchsorted(held, share - 1e-12)) + 1
    return left[:, :rank] * values[:rank]


# ---- FISTA ---------------------------------------------------------------------------------


def _norms(A: Array) -> Array:
    return np.sqrt((A**2).sum(axis=(-2, -1)))


def _shrunk(A: Array, amount: float) -> Array:
    """The proximal operator of ``amount`` times the groups' norms."""
    norms = _norms(A)
    factor = np.maximum(0.0, 1.0 - amount / np.maximum(norms, 1e-300))
    return A * factor[..., None, None]


def _lipschitz(kernels: Array) -> float:
    """The largest eigenvalue of sum_p K_p K_p."""
    return float(np.linalg.eigvalsh(np.matmul(kernels, kernels).sum(axis=0))[-1])


def _fista(
    kernels: Array, Y: Array, penalty: float, A: Array, tolerance: float, iterations: int
) -> Array:
    step = 1.0 / max(_lipschitz(kernels), 1e-300)
    ahead, momentum = A, 1.0
    for _ in range(iterations):
        residual = np.matmul(kernels, ahead).sum(axis=0) - Y
        new = _shrunk(ahead - step * np.matmul(kernels, residual), step * penalty)
        change = new - A
        # Where the momentum points uphill it is dropped.
        if ((ahead - new) * change).sum() > 0:
            momentum = 1.0
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = new + (momentum - 1.0) / following * change
        A, momentum = new, following
        if (change**2).sum() <= tolerance**2 * max(float((new**2).sum()), 1e-300):
            break
    return A


# ---- as a similarity -----------------------------------------------------------------------


class KGLasso:
    """Past tasks weighed by a kernel ridge regression on the meta-features that matter.

    Args:
        cautious: Whether to select few meta-features; see ``Path.best``.
        shrinkage: What share of the weight all tasks have alike.
    """

    def __init__(self, *, cautious: bool = True, shrinkage: float = 0.0) -> None:
        self._cautious, self._shrinkage = cautious, shrinkage

    def fit(self, past: Sequence[Mapping[str, float]], performance: Array) -> KGLasso:
        """Selects meta-features.

        Args:
            past: t past tasks' meta-features.
            performance: t x m, of m configurations, on comparable scales.
        """
        self._standardiser = Standardiser(past)
        table = np.nan_to_num(self._standardiser.table)
        self._tasks = len(table)
        self.path: Path | None = None
        self._chosen = np.empty(0, int)
        self._columns: list[FeatureKernel] = [FeatureKernel(column) for column in table.T]
        centred = performance - performance.mean(axis=0)
        if self._columns and self._tasks > 2 and np.abs(centred).max(initial=0.0) > 0:
            kernels = np.stack([column.gram for column in self._columns])
            self.path = regularisation_path(kernels, centred)
            index = self.path.best(cautious=self._cautious)
            self._norms = self.path.norms[index]
            self._chosen = np.flatnonzero(self._norms > 0)
            ridge = self.path.ridges[index] * np.eye(self._tasks)
            self._inverse = np.linalg.inv(kernels[self._chosen].sum(axis=0) + ridge)
        return self

    @property
    def importance(self) -> dict[str, float]:
        """The selected meta-features' shares of the norms, largest first."""
        if not len(self._chosen):
            return {}
        shares = self._norms / self._norms.sum()
        order = self._chosen[np.argsort(-shares[self._chosen], kind="stable")]
        return {self._standardiser.names[index]: float(shares[index]) for index in order}

    def weights(self, present: Mapping[str, float]) -> Array:
        """T weights that sum to 1, some of them below 0: the rows of the smoother."""
        mean = np.full(self._tasks, 1.0 / self._tasks)
        if not len(self._chosen):
            return mean
        own = np.nan_to_num(self._standardiser(present))
        cross = sum(self._columns[index].cross(own[index]) for index in self._chosen)
        smoothed = np.asarray(cross) @ self._inverse
        return mean + (1.0 - self._shrinkage) * (smoothed - smoothed.mean())


class FeatureKernel:
    """A Gaussian kernel on one meta-feature, centred and of Frobenius norm 1.

    The bandwidth is the median distance of two tasks. The norm puts all meta-features on one
    footing under the penalty.

    Args:
        values: t.
    """

    def __init__(self, values: Array) -> None:
        self._values = values
        distances = np.abs(values[:, None] - values)
        apart = distances[np.triu_indices(len(values), k=1)]
        # Where most tasks agree, the median of those that differ.
        self._bandwidth = float(np.median(apart) or np.median(apart[apart > 0]))
        raw = np.exp(-(distances**2) / (2.0 * self._bandwidth**2))
        self._means = raw.mean(axis=0)
        centred = raw - self._means - self._means[:, None] + self._means.mean()
        self._norm = max(float(np.linalg.norm(centred)), 1e-300)
        self.gram = centred / self._norm

    def cross(self, value: float) -> Array:
        """T, between another task and those."""
        raw = np.exp(-((self._values - value) ** 2) / (2.0 * self._bandwidth**2))
        return (raw - raw.mean() - self._means + self._means.mean()) / self._norm
