"""Matern-5/2 Gaussian processes in closed form, with the exact gradient of the evidence.

Written out in NumPy because a suggestion must not be noticed beside training: for the few
hundred points of a tuning task, autograd's bookkeeping costs several times the arithmetic.

Notation (see also ``metahpo.tasks.space``):

    X   n x p features           l   p lengthscales, one a feature, tied within a hyperparameter
    r   n x m scaled distances   k   1 + sqrt(5) r + 5/3 r^2, times exp(-sqrt(5) r)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize
from torch import Tensor
from torch.autograd.function import once_differentiable

from metahpo.tasks.space import Array

SQRT5 = math.sqrt(5.0)
# Added to the diagonal: what float64 needs for repeated configurations.
JITTER = 1e-8


def squared_distances(a: Array, b: Array, lengthscales: Array) -> Array:
    """Squared scaled distances.

    Args:
        a: n x p.
        b: m x p.
        lengthscales: p.

    Returns:
        n x m.
    """
    a, b = a / lengthscales, b / lengthscales
    squares = np.sum(a * a, axis=1)[:, None] + np.sum(b * b, axis=1)[None, :]
    return np.maximum(squares - 2.0 * (a @ b.T), 0.0)


def matern52(a: Array, b: Array, lengthscales: Array) -> Array:
    """Matern-5/2 correlations (Rasmussen and Williams 2006, eq. 4.17).

    Args:
        a: n x p.
        b: m x p.
        lengthscales: p.

    Returns:
        n x m, 1 where the points coincide.
    """
    scaled = SQRT5 * np.sqrt(squared_distances(a, b, lengthscales))
    return (1.0 + scaled + scaled * scaled / 3.0) * np.exp(-scaled)


class _Matern52(torch.autograd.Function):
    """The same for tensors, differentiable once.

    Written out for two reasons: the square root has no gradient where points coincide although
    the kernel has one, and a few large operations cost less than many small ones.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        squares = a.square().sum(-1, keepdim=True) + b.square().sum(-1).unsqueeze(-2)
        scaled = squares.sub_(a @ b.mT, alpha=2.0)
        scaled = scaled.clamp_min_(0.0).sqrt_().mul_(SQRT5)
        decay = torch.exp(-scaled)
        linear = 1.0 + scaled
        ctx.save_for_backward(a, b, linear * decay)
        return (linear + scaled.square() / 3.0) * decay

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        a, b, slope = ctx.saved_tensors
        # d k / d r^2 = -5/6 (1 + sqrt(5) r) exp(-sqrt(5) r), and d r^2 / d a = 2 (a - b)
        weights = gradients[0] * slope
        in_a = (a * weights.sum(-1, keepdim=True) - weights @ b) * (-5.0 / 3.0)
        if not ctx.needs_input_grad[1]:
            return in_a, None
        in_b = (b * weights.sum(-2).unsqueeze(-1) - weights.mT @ a) * (-5.0 / 3.0)
        return in_a, in_b.sum_to_size(b.shape)


def matern52_tensor(scaled_a: Tensor, scaled_b: Tensor) -> Tensor:
    """Matern-5/2 correlations, differentiable.

    Args:
        scaled_a: ``... x n x p``, divided by the lengthscales.
        scaled_b: ``... x m x p``, likewise.

    Returns:
        ``... x n x m``.
    """
    return cast(Tensor, _Matern52.apply(scaled_a, scaled_b))


class Hyperparameters(NamedTuple):
    """Of a Gaussian process with a Matern-5/2 kernel.

    Attributes:
        lengthscales: One a hyperparameter of the space (and one an activity column).
        signal: Variance of the function.
        noise: Variance of the observations around it.
    """

    lengthscales: Array
    signal: float
    noise: float

    def feature_lengthscales(self, owner: tuple[int, ...]) -> Array:
        """The lengthscale of each feature, p, given the features' owners."""
        return self.lengthscales[np.asarray(owner, dtype=int)]


class Data(NamedTuple):
    """Observations of one task: X is n x p, y is n, standardised."""

    X: Array
    y: Array


# Log-normal priors as (mean, standard deviation) of the logarithm. The lengthscale prior grows
# with the dimension as in Hvarfner et al. 2024, "Vanilla Bayesian optimization performs great
# in high dimensions"; noise is small but may be large.
LENGTHSCALE_PRIOR = (math.log(0.5), 1.0)
SIGNAL_PRIOR = (0.0, 1.0)
NOISE_PRIOR = (math.log(1e-3), 2.0)
CONSTANT_VARIANCE = 1.0
NOISE_FLOOR = 1e-5


def default_hyperparameters(count: int) -> Hyperparameters:
    """The prior's centre for ``count`` lengthscales."""
    lengthscale = math.exp(LENGTHSCALE_PRIOR[0]) * math.sqrt(max(count, 1))
    return Hyperparameters(np.full(count, lengthscale), 1.0, math.exp(NOISE_PRIOR[0]))


def fit(tasks: list[Data], owner: tuple[int, ...], *, max_iterations: int = 60) -> Hyperparameters:
    """Hyperparameters of largest posterior density, shared by all given tasks.

    Args:
        tasks: One or more tasks, each modelled independently given the hyperparameters.
        owner: p: the hyperparameter that each feature belongs to.
        max_iterations: Of L-BFGS-B.

    Returns:
        The fitted hyperparameters; the prior's centre where there is nothing to fit.
    """
    count = max(owner, default=-1) + 1
    start = default_hyperparameters(count)
    tasks = [task for task in tasks if len(task.y) > 1]
    if not tasks or count == 0:
        return start
    centre = np.log(np.concatenate([start.lengthscales, [start.signal, start.noise]]))
    bounds = [(math.log(0.02), math.log(50.0))] * count + [
        (math.log(1e-2), math.log(20.0)),
        (math.log(NOISE_FLOOR), math.log(2.0)),
    ]
    result = minimize(
        lambda theta: _objective(theta, tasks, owner, centre),
        centre,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": max_iterations, "ftol": 1e-6},
    )
    values = np.exp(result.x)
    return Hyperparameters(values[:count], float(values[-2]), float(values[-1]))


def _objective(
    theta: Array, tasks: list[Data], owner: tuple[int, ...], centre: Array
) -> tuple[float, Array]:
    """Negative log posterior density and its gradient in the logarithms."""
    spread = np.concatenate(
        [np.full(len(theta) - 2, LENGTHSCALE_PRIOR[1]), [SIGNAL_PRIOR[1], NOISE_PRIOR[1]]]
    )
    deviation = (theta - centre) / spread
    value, gradient = 0.5 * float(deviation @ deviation), deviation / spread
    for task in tasks:
        task_value, task_gradient = negative_log_evidence(theta, task, owner)
        value += task_value
        gradient = gradient + task_gradient
    return value, gradient


def negative_log_evidence(theta: Array, task: Data, owner: tuple[int, ...]) -> tuple[float, Array]:
    """Negative log marginal likelihood of one task and its gradient.

    The constant mean is integrated out under a normal prior of variance CONSTANT_VARIANCE.

    Args:
        theta: Logarithms of the lengthscales (one an owner), the signal and the noise variance.
        task: Its data.
        owner: p: the hyperparameter that each feature belongs to.

    Returns:
        The value, and its gradient in ``theta``.
    """
    X, y = task
    owners = np.asarray(owner, dtype=int)
    lengthscales = np.exp(theta[:-2])[owners]
    signal, noise = math.exp(theta[-2]), math.exp(theta[-1])
    scaled = SQRT5 * np.sqrt(squared_distances(X, X, lengthscales))
    decay = np.exp(-scaled)
    covariance = signal * (1.0 + scaled + scaled * scaled / 3.0) * decay
    gram = covariance + CONSTANT_VARIANCE
    gram[np.diag_indices_from(gram)] += noise + JITTER
    factor = cholesky(gram, lower=True, check_finite=False)
    inverse = cho_solve((factor, True), np.eye(len(y)), check_finite=False)
    alpha = inverse @ y
    value = (
        0.5 * float(y @ alpha)
        + float(np.log(np.diag(factor)).sum())
        + 0.5 * len(y) * math.log(2.0 * math.pi)
    )
    # d value / d gram = (inverse - alpha alpha') / 2
    outer = 0.5 * (inverse - np.outer(alpha, alpha))
    # d k / d log l_j = 5/3 (1 + sqrt(5) r) exp(-sqrt(5) r) (x_j - x'_j)^2 / l_j^2
    weights = outer * (signal * (5.0 / 3.0) * (1.0 + scaled) * decay)
    scaled_X = X / lengthscales
    per_feature = 2.0 * (
        weights.sum(axis=1) @ (scaled_X * scaled_X) - np.sum(scaled_X * (weights @ scaled_X), 0)
    )
    gradient = np.zeros(len(theta))
    np.add.at(gradient, owners, per_feature)
    gradient[-2] = float(np.sum(outer * covariance))
    gradient[-1] = noise * float(np.trace(outer))
    return value, gradient
