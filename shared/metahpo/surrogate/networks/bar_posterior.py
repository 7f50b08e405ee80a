"""A bar distribution as a BoTorch posterior."""

from __future__ import annotations

import torch
from botorch.posteriors.posterior import Posterior
from botorch.sampling.get_sampler import GetSampler
from botorch.sampling.normal import SobolQMCNormalSampler
from torch import Tensor

from metahpo.surrogate.networks.bars import BarDistribution

NONE = torch.Size()


class BarPosterior(Posterior):
    """A bar distribution at each point, as a BoTorch posterior.

    Points are independent given the trials: what they have in common is reached by fantasies
    (``neural_model.NeuralModel.fantasised``).

    Args:
        answer: ``batch_shape x q`` distributions.
    """

    def __init__(self, answer: BarDistribution) -> None:
        self.answer = answer

    @property
    def device(self) -> torch.device:
        """Of the masses."""
        return self.answer.masses.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the masses."""
        return self.answer.masses.dtype

    @property
    def mean(self) -> Tensor:
        """``batch_shape x q x 1``."""
        return self.answer.mean.unsqueeze(-1)

    @property
    def variance(self) -> Tensor:
        """``batch_shape x q x 1``."""
        return self.answer.variance.unsqueeze(-1)

    @property
    def base_sample_shape(self) -> torch.Size:
        """Of the normal samples that samples are made from."""
        return self._extended_shape()

    @property
    def batch_range(self) -> tuple[int, int]:
        """All dimensions but the last two are batches."""
        return (0, -2)

    def _extended_shape(self, sample_shape: torch.Size = NONE) -> torch.Size:
        return torch.Size([*sample_shape, *self.answer.batch_shape, 1])

    def quantile(self, value: Tensor) -> Tensor:
        """``len(value) x batch_shape x q x 1`` quantiles."""
        return torch.stack([self.answer.quantile(float(v)).unsqueeze(-1) for v in value])

    def density(self, value: Tensor) -> Tensor:
        """Densities at ``batch_shape x q x 1`` scores."""
        return self.answer.log_density(value.squeeze(-1)).exp().unsqueeze(-1)

    def rsample(self, sample_shape: torch.Size | None = None) -> Tensor:
        """``sample_shape x batch_shape x q x 1`` samples."""
        shape = self._extended_shape(sample_shape or torch.Size([1]))
        return self.rsample_from_base_samples(
            torch.Size(shape[: len(shape) - len(self._extended_shape())]),
            torch.randn(shape, dtype=self.dtype, device=self.device),
        )

    def rsample_from_base_samples(self, sample_shape: torch.Size, base_samples: Tensor) -> Tensor:
        """Samples by the inverse distribution function, differentiable in the masses."""
        chances = torch.special.ndtr(base_samples).clamp(1e-9, 1.0 - 1e-9)
        flat = chances.expand(self._extended_shape(sample_shape)).squeeze(-1)
        return self.answer.quantile(flat).unsqueeze(-1)


@GetSampler.register(BarPosterior)
def _sampler(
    posterior: BarPosterior, sample_shape: torch.Size, *, seed: int | None = None
) -> SobolQMCNormalSampler:
    return SobolQMCNormalSampler(sample_shape=sample_shape, seed=seed)
