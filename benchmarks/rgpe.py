"""Ranking-weighted Gaussian process ensemble, RGPE (Feurer, Letham, Bakshy 2018), on BoTorch.

One Gaussian process a past task and one on the study's own trials; their weights are how often,
over samples of their posteriors at the study's trials, each misranks the fewest pairs of them.
The study's own process is judged by its leave-one-out predictions.

    t   past tasks
    n   trials of the study
    p   features
    S   posterior samples
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import gpytorch
import torch
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior
from botorch.sampling import SobolQMCNormalSampler
from gpytorch.distributions import MultivariateNormal
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

SAMPLES = 256
# Fewer trials say nothing about ranks: past tasks then count the same (section 4 of the paper
# starts from a few trials of an initial design).
MIN_TRIALS = 3
# A past task is dropped when the median of its loss lies above this quantile of the study's own,
# so that many useless tasks cannot outweigh a useful one ("weight dilution").
DILUTION_QUANTILE = 0.95
# On values without any structure the likelihood is flat, and the search would go on for minutes.
MAX_ITERATIONS = 100


def fit_gp(X: Tensor, y: Tensor) -> SingleTaskGP:
    """A Gaussian process fitted to standardised values.

    Args:
        X: n x p.
        y: n, on any scale.
    """
    model = SingleTaskGP(X, standardised(y)[:, None], outcome_transform=None)
    with warnings.catch_warnings():
        # A line search that gives up leaves a usable fit.
        warnings.simplefilter("ignore")
        likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
        fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": MAX_ITERATIONS}})
    return model.eval()


def standardised(y: Tensor) -> Tensor:
    """Zero mean and unit deviation; a constant becomes zero."""
    deviation = y.std() if len(y) > 1 else torch.ones(())
    return (y - y.mean()) / (deviation if deviation > 0 else 1.0)


def ranking_losses(samples: Tensor, y: Tensor) -> Tensor:
    """The number of pairs of trials that samples put in the wrong order (equation 4).

    Args:
        samples: ... x S x n.
        y: n observed values.

    Returns:
        ... x S.
    """
    predicted = samples[..., :, None] < samples[..., None, :]
    observed = y[:, None] < y[None, :]
    return (predicted ^ observed).sum(dim=(-1, -2))


def weights_of(losses: Tensor) -> Tensor:
    """How often each model misranks the fewest pairs (equation 5).

    Args:
        losses: (t + 1) x S; the study's own model is the last, and wins ties.

    Returns:
        t + 1 weights that sum to one.
    """
    own = losses[-1]
    limit = torch.quantile(own.double(), DILUTION_QUANTILE)
    useless = losses[:-1].double().quantile(0.5, dim=-1) > limit
    kept = losses.double().clone()
    kept[:-1][useless] = torch.inf
    # argmin takes the first of equals: the study's own model goes first.
    winners = torch.cat([kept[-1:], kept[:-1]]).argmin(dim=0)
    counts = torch.bincount(winners, minlength=len(losses)).double()
    return torch.cat([counts[1:], counts[:1]]) / losses.shape[-1]


def leave_one_out(model: SingleTaskGP) -> tuple[Tensor, Tensor]:
    """Means and variances at each training point, predicted from all others (n each).

    In closed form (Rasmussen and Williams 2006, equation 5.12), hyperparameters kept.
    """
    X, y = model.train_inputs[0], model.train_targets
    with torch.no_grad():
        prior = model.forward(X)
        noise = model.likelihood.noise.squeeze()
        covariance = prior.covariance_matrix + noise * torch.eye(len(y), dtype=y.dtype)
        inverse = torch.linalg.inv(covariance)
        precision = inverse.diagonal()
        mean = y - (inverse @ (y - prior.mean)) / precision
        return mean, (1.0 / precision - noise).clamp_min(1e-10)


class RGPE(Model):
    """The ensemble as a BoTorch model.

    Args:
        past: A process for each past task.
        X: n x p, the study's trials.
        y: n values, larger is better.
        seed: Of the posterior samples.
    """

    def __init__(self, past: Sequence[SingleTaskGP], X: Tensor, y: Tensor, seed: int) -> None:
        super().__init__()
        self.models = list(past)
        count = len(y)
        if count < MIN_TRIALS:
            self.weights = torch.full((len(self.models),), 1.0 / max(len(self.models), 1))
        else:
            own = fit_gp(X, y)
            self.models.append(own)
            self.weights = weights_of(self._losses(past, own, X, y, seed))
        self.weights = self.weights.double()

    @property
    def num_outputs(self) -> int:
        """One."""
        return 1

    @property
    def batch_shape(self) -> torch.Size:
        """No batch."""
        return torch.Size()

    def posterior(self, X: Tensor, *_: Any, **__: Any) -> GPyTorchPosterior:
        """The weighted sum of independent processes (equation 2); its points independent.

        Args:
            X: batch_shape x q x p.
        """
        mean, variance = torch.zeros(()), torch.zeros(())
        for weight, model in zip(self.weights, self.models, strict=True):
            if weight > 0:
                posterior = model.posterior(X)
                mean = mean + weight * posterior.mean.squeeze(-1)
                variance = variance + weight**2 * posterior.variance.squeeze(-1)
        return GPyTorchPosterior(MultivariateNormal(mean, torch.diag_embed(variance)))

    @staticmethod
    def _losses(
        past: Sequence[SingleTaskGP], own: SingleTaskGP, X: Tensor, y: Tensor, seed: int
    ) -> Tensor:
        sampler = SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=seed)
        mean, variance = leave_one_out(own)
        independent = MultivariateNormal(mean, torch.diag_embed(variance))
        with torch.no_grad(), gpytorch.settings.cholesky_jitter(double_value=1e-6):
            posteriors = [model.posterior(X) for model in past]
            draws = [
                sampler(posterior).squeeze(-1)
                for posterior in (*posteriors, GPyTorchPosterior(independent))
            ]
        return torch.stack([ranking_losses(draw, y) for draw in draws])
