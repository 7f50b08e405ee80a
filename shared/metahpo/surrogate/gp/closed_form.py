"""A Gaussian process in closed form, as a BoTorch model.

One class serves as the target-only model and as the transferred one, which has the past tasks
for a prior:

    f(x) = sum_i w_i F_i(x) + g(x) + c        w_i ~ N(rho_i, kappa rho_i)
    g ~ GP(0, signal * Matern-5/2)            c ~ N(0, constant)

F_i(x) is what past task i predicts at x. With equal rho the prior mean is the past tasks' mean
and, at kappa = 1, the prior covariance is their empirical second moment: the present task is
much like one more draw from the population that the past ones came from (the idea of HyperBO,
Wang et al. 2024, "Pre-trained Gaussian processes for Bayesian optimization"). Conditioning on a
few trials shows which past tasks the present one resembles; g learns what none of them shows.
Integrating out w and c leaves a Gaussian process, so that everything is exact.

Notation: see ``metahpo.tasks.space``; t past tasks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from botorch.posteriors.gpytorch import GPyTorchPosterior
from gpytorch.distributions import MultivariateNormal
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from torch import Tensor

from metahpo.surrogate.gp.kernel import JITTER, matern52, matern52_tensor
from metahpo.surrogate.gp.past_models import PastModels
from metahpo.surrogate.score_model import ScoreModel
from metahpo.tasks.space import Array

MINIMUM_VARIANCE = 1e-10


@dataclass(frozen=True)
class Kernel:
    """Of g and c.

    Attributes:
        lengthscales: p, one a feature.
        signal: Variance of g.
        noise: Variance of the observations.
        constant: Variance of c.
    """

    lengthscales: Array
    signal: float
    noise: float
    constant: float


@dataclass(frozen=True, eq=False)
class Prior:
    """What past tasks say: F, rho and kappa above; rho is t and sums to 1."""

    past: PastModels
    rho: Array
    kappa: float

    @property
    def variances(self) -> Array:
        """t: prior variances of the weights."""
        return self.kappa * self.rho


class ClosedFormGP(ScoreModel):
    """The posterior process given observed scores.

    Args:
        X: n x p features.
        scores: n.
        kernel: Of g and c.
        prior: The past tasks, if any.

    Raises:
        numpy.linalg.LinAlgError: Where the covariance cannot be factorised.
    """

    def __init__(
        self, X: Array, scores: Array, kernel: Kernel, prior: Prior | None = None
    ) -> None:
        super().__init__()
        self.X, self.scores, self.kernel, self.prior = X, scores, kernel, prior
        predictions = _predictions(prior, X)
        mean = predictions @ prior.rho if prior else np.zeros(len(X))
        gram = kernel.signal * matern52(X, X, kernel.lengthscales) + kernel.constant
        if prior:
            gram = gram + (predictions * prior.variances) @ predictions.T
        gram[np.diag_indices_from(gram)] += kernel.noise + JITTER
        self.factor = _cholesky(gram)
        residual = scores - mean
        self.alpha = cho_solve((self.factor, True), residual, check_finite=False)
        # Of each score given the ones before it; the chain rule reads them off the factor.
        surprise = solve_triangular(self.factor, residual, lower=True, check_finite=False)
        self.log_densities = -0.5 * (surprise**2 + math.log(2.0 * math.pi)) - np.log(
            np.diag(self.factor)
        )
        self._predictions = predictions
        self._tensors = tuple(
            torch.as_tensor(array, dtype=torch.float64)
            for array in (
                X / kernel.lengthscales,
                kernel.lengthscales,
                self.alpha,
                _inverse_triangle(self.factor),
                predictions * prior.variances if prior else predictions,
            )
        )

    # ---- BoTorch's side --------------------------------------------------------------------

    def _posterior(self, X: Tensor, observation_noise: bool | Tensor) -> GPyTorchPosterior:
        """The joint posterior at ``batch_shape x q x p`` features."""
        mean, covariance = self._joint(X)
        if not isinstance(observation_noise, bool):
            covariance = covariance + torch.diag_embed(observation_noise.squeeze(-1))
        elif observation_noise:
            covariance = covariance + self.kernel.noise * torch.eye(X.shape[-2], dtype=X.dtype)
        return GPyTorchPosterior(MultivariateNormal(mean, covariance))

    def _joint(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Mean ``batch_shape x q`` and covariance ``batch_shape x q x q``."""
        mean, explained, own = self._terms(X)
        if X.shape[-2] == 1:
            variance = self._variance(explained, own).unsqueeze(-1)
            return mean, variance
        scaled = X / self._tensors[1]
        joint = self.kernel.signal * matern52_tensor(scaled, scaled) + self.kernel.constant
        if self.prior:
            joint = joint + (own * torch.as_tensor(self.prior.variances)) @ own.mT
        joint = joint - explained @ explained.mT
        return mean, joint + MINIMUM_VARIANCE * torch.eye(X.shape[-2], dtype=X.dtype)

    def mean_and_variance(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and variance of scores at single points.

        Args:
            X: ``... x p``.

        Returns:
            Two tensors of ``...``.
        """
        mean, explained, own = self._terms(X)
        return mean, self._variance(explained, own)

    def _terms(self, X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, what the data explain (... x n; its square is the variance), F(X) (... x t)."""
        scaled_X, lengthscales, alpha, inverse_factor, weighted = self._tensors
        cross = (
            self.kernel.signal * matern52_tensor(X / lengthscales, scaled_X) + self.kernel.constant
        )
        if not self.prior:
            mean, own = cross @ alpha, cross[..., :0]
        else:
            own = self.prior.past(X)
            cross = cross + own @ weighted.mT
            mean = own @ torch.as_tensor(self.prior.rho) + cross @ alpha
        return mean, cross @ inverse_factor.mT, own

    def _variance(self, explained: Tensor, own: Tensor) -> Tensor:
        variance = self.kernel.signal + self.kernel.constant - explained.square().sum(-1)
        if self.prior:
            variance = variance + own.square() @ torch.as_tensor(self.prior.variances)
        return variance.clamp_min(MINIMUM_VARIANCE)

    # ---- what a surrogate is made of -------------------------------------------------------

    @cached_property
    def incumbent(self) -> float:
        """The largest posterior mean at an observed point: the best score, less its noise."""
        with torch.no_grad():
            return float(self.mean_and_variance(torch.as_tensor(self.X))[0].max())

    @cached_property
    def task_weights(self) -> Array:
        """``t``: posterior means of the past tasks' weights; nothing without a prior."""
        if not self.prior:
            return np.empty(0)
        return self.prior.rho + self.prior.variances * (self._predictions.T @ self.alpha)

    def condition_on_means(self, X: Array) -> ClosedFormGP:
        """This model after observing its own mean at ``m x p`` features.

        The kriging believer of Ginsbourger et al. 2010: means stay, variances shrink.
        """
        with torch.no_grad():
            means = self.mean_and_variance(torch.as_tensor(X))[0].numpy()
        return ClosedFormGP(
            np.concatenate([self.X, X]),
            np.concatenate([self.scores, means]),
            self.kernel,
            self.prior,
        )


def _predictions(prior: Prior | None, X: Array) -> Array:
    """``n x t``, of the past tasks at ``n x p`` features."""
    if prior is None:
        return np.empty((len(X), 0))
    with torch.no_grad():
        return prior.past(torch.as_tensor(X)).numpy()


def _cholesky(gram: Array) -> Array:
    """Lower Cholesky factor, with as little extra jitter as it takes."""
    for extra in (0.0, 1e-6, 1e-4):
        try:
            return cholesky(
                gram + extra * np.mean(np.diag(gram)) * np.eye(len(gram)),
                lower=True,
                check_finite=False,
            )
        except LinAlgError:
            continue
    raise LinAlgError(f"a covariance of {len(gram)} trials is not positive definite")


def _inverse_triangle(factor: Array) -> Array:
    return solve_triangular(factor, np.eye(len(factor)), lower=True, check_finite=False)
