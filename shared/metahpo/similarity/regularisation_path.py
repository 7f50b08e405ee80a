"""Choice of the kernel group lasso's penalty: solutions along a path, and their errors.

Notation: P meta-features (groups), t tasks, m columns of Y, L penalties on the path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metahpo.similarity.group_lasso import TINY, group_norms, solve, strongest_penalty
from metahpo.tasks.space import Array

# Penalties on the path: from the one that selects nothing down to this fraction of it.
PATH_LENGTH = 24
PATH_END = 0.02
# The path ends after this many penalties in a row that did not improve on the best error.
PATIENCE = 5
# Fraction of the variation of Y that the path is computed on; the rest is mostly noise.
KEPT_VARIATION = 0.95
# Ridge penalties of the refit, relative to the largest eigenvalue of its kernel.
RIDGES = np.geomspace(1e-3, 1e2, 16)


@dataclass(frozen=True, eq=False)
class Path:
    """Solutions along the path.

    Attributes:
        penalties: `L`, descending.
        norms: `L x P`, group norms ||A_p||_F; 0 for a meta-feature that is not selected.
        errors: `L x t`, squared leave-one-out errors of a kernel ridge regression on the
            selected meta-features.
        ridges: `L`, the ridge penalty of that regression.
    """

    penalties: Array
    norms: Array
    errors: Array
    ridges: Array

    def best(self, *, cautious: bool = True) -> int:
        """Return the index of the penalty with the smallest leave-one-out error.

        Args:
            cautious: Whether to take the strongest penalty whose error is within one standard
                error of the smallest (Breiman et al. 1984), which selects fewer meta-features.
        """
        best = int(np.argmin(self.errors.mean(axis=1)))
        if not cautious:
            return best
        excess = self.errors - self.errors[best]
        deviation = excess.std(axis=1) / np.sqrt(self.errors.shape[1])
        return int(np.flatnonzero(excess.mean(axis=1) <= deviation)[0])


def regularisation_path(kernels: Array, Y: Array, *, tolerance: float = 1e-4) -> Path:
    """Solve from the strongest penalty down, each solution starting from the one before.

    The lasso shrinks what it selects, so that its own error favours weak penalties that admit
    noise. Each selection is therefore scored after a refit without this shrinkage: a kernel
    ridge regression on the sum of the selected kernels, whose leave-one-out error has a closed
    form (Allen 1974, PRESS). The selection itself uses all tasks.

    Args:
        kernels: `P x t x t`, symmetric.
        Y: `t x m`, columns of mean 0.
        tolerance: See ``solve``.
    """
    reduced = _principal_scores(Y)
    penalties = strongest_penalty(kernels, reduced) * np.geomspace(1.0, PATH_END, PATH_LENGTH)
    A = np.zeros((len(kernels), *reduced.shape))
    norms, errors, ridges = [], [], []
    for penalty in penalties:
        A = solve(kernels, reduced, penalty, start=A, tolerance=tolerance)
        norms.append(group_norms(A))
        error, ridge = leave_one_out_errors(kernels[norms[-1] > 0].sum(axis=0), reduced)
        errors.append(error)
        ridges.append(ridge)
        if len(errors) - 1 - np.argmin([e.sum() for e in errors]) >= PATIENCE:
            break
    return Path(penalties[: len(norms)], np.stack(norms), np.stack(errors), np.array(ridges))


def leave_one_out_errors(kernel: Array, Y: Array) -> tuple[Array, float]:
    """Return squared leave-one-out errors of a kernel ridge regression, and its penalty.

    Args:
        kernel: `t x t`, centred.
        Y: `t x m`, columns of mean 0.

    Returns:
        `t`, for the ridge penalty whose errors have the smallest sum; and that penalty.
    """
    values, vectors = np.linalg.eigh(kernel)
    rotated = vectors.T @ Y
    largest = max(float(values[-1]), 1e-12)
    found: list[tuple[float, float, Array]] = []
    for ridge in RIDGES * largest:
        share = np.maximum(values, 0.0) / (np.maximum(values, 0.0) + ridge)
        residual = Y - vectors @ (share[:, None] * rotated)
        # The column means are estimated with the left-out task, too: 1 / t of its leverage.
        left = 1.0 - (vectors**2) @ share - 1.0 / len(Y)
        errors = ((residual / np.maximum(left, 1e-3)[:, None]) ** 2).sum(axis=1)
        found.append((float(errors.sum()), float(ridge), errors))
    _, ridge, errors = min(found, key=lambda entry: entry[0])
    return errors, ridge


def _principal_scores(Y: Array) -> Array:
    """Y (`t x m`) in the principal directions that hold ``KEPT_VARIATION`` of its variation.

    A rotation keeps all norms, so that the solution is the same with fewer columns.
    """
    left, values, _ = np.linalg.svd(Y, full_matrices=False)
    held = np.cumsum(values**2) / max(float((values**2).sum()), TINY)
    rank = int(np.searchsorted(held, KEPT_VARIATION - 1e-12)) + 1
    return left[:, :rank] * values[:rank]
