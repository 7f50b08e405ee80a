"""Solver of the kernel group lasso (Deng & Xiao 2024).

Each meta-feature has a kernel of its own between the tasks, and the performance of m
configurations is explained by as few kernels as suffice:

    min over A_1 .. A_P of  1/2 ||Y - sum_p K_p A_p||_F^2 + lambda sum_p ||A_p||_F

The penalty sets whole groups to zero, hence drops meta-features. Solved by FISTA (Beck &
Teboulle 2009) with adaptive restarts (O'Donoghue & Candes 2015).

Notation: P meta-features (groups), t tasks, m columns of Y. Kernels are `P x t x t` and
symmetric, Y is `t x m`, A is `P x t x m`.
"""

from __future__ import annotations

import numpy as np

from metahpo.tasks.space import Array

TOLERANCE = 1e-6
MAXIMUM_ITERATIONS = 2000
# Guards divisions by norms that may be 0.
TINY = 1e-300


def solve(
    kernels: Array,
    Y: Array,
    penalty: float,
    *,
    start: Array | None = None,
    tolerance: float = TOLERANCE,
    maximum_iterations: int = MAXIMUM_ITERATIONS,
) -> Array:
    """Return the minimiser.

    FISTA runs on the active groups only. Once it has converged, groups that violate the
    optimality conditions at zero are added and it runs again.

    Args:
        kernels: `P x t x t`, symmetric.
        Y: `t x m`.
        penalty: lambda, above 0.
        start: `P x t x m`, initial solution; zero by default.
        tolerance: Change in one iteration, relative to the norm of the solution, at which
            FISTA stops.
        maximum_iterations: Upper bound for each set of active groups.

    Returns:
        `P x t x m`.
    """
    A = np.zeros((len(kernels), *Y.shape)) if start is None else start.copy()
    active = group_norms(A) > 0
    while True:
        chosen = np.flatnonzero(active)
        if len(chosen):
            A[chosen] = _fista(
                kernels[chosen], Y, penalty, A[chosen], tolerance, maximum_iterations
            )
        residual = Y - np.matmul(kernels[chosen], A[chosen]).sum(axis=0)
        violating = group_norms(np.matmul(kernels, residual)) > penalty * (1.0 + 1e-9)
        if not (violating & ~active).any():
            return A
        active |= violating


def strongest_penalty(kernels: Array, Y: Array) -> float:
    """Return the smallest lambda at which every group is zero."""
    return float(group_norms(np.matmul(kernels, Y)).max(initial=0.0))


def group_norms(A: Array) -> Array:
    """Return the Frobenius norm of each group, `P`."""
    return np.sqrt((A**2).sum(axis=(-2, -1)))


def _soft_threshold(A: Array, amount: float) -> Array:
    """Proximal operator of ``amount`` times the sum of the group norms."""
    factor = np.maximum(0.0, 1.0 - amount / np.maximum(group_norms(A), TINY))
    return A * factor[..., None, None]


def _lipschitz(kernels: Array) -> float:
    """Largest eigenvalue of sum_p K_p K_p, the Lipschitz constant of the gradient."""
    return float(np.linalg.eigvalsh(np.matmul(kernels, kernels).sum(axis=0))[-1])


def _fista(
    kernels: Array, Y: Array, penalty: float, A: Array, tolerance: float, iterations: int
) -> Array:
    step = 1.0 / max(_lipschitz(kernels), TINY)
    extrapolated, momentum = A, 1.0
    for _ in range(iterations):
        residual = np.matmul(kernels, extrapolated).sum(axis=0) - Y
        gradient = np.matmul(kernels, residual)
        new = _soft_threshold(extrapolated - step * gradient, step * penalty)
        change = new - A
        # Restart: the momentum no longer points downhill.
        if ((extrapolated - new) * change).sum() > 0:
            momentum = 1.0
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        extrapolated = new + (momentum - 1.0) / following * change
        A, momentum = new, following
        if (change**2).sum() <= tolerance**2 * max(float((new**2).sum()), TINY):
            break
    return A
