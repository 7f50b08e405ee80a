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

    The points are independent given the trials; joint samples come from conditioning on one point
    after the other (``neural_model``).

    Args:
        bars: ``batch_shape x q`` distributions.
    """

    def __init__(self, bars: BarDistribution) -> None:
        self.bars = bars

    @property
    def device(self) -> torch.device:
        """Device of the masses."""
        return self.bars.masses.device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the masses."""
        return self.bars.masses.dtype

    @property
    def mean(self) -> Tensor:
        """Means, ``batch_shape x q x 1``."""
        return self.bars.mean.unsqueeze(-1)

    @property
    def variance(self) -> Tensor:
        """Variances, ``batch_shape x q x 1``."""
        return self.bars.variance.unsqueeze(-1)

    @property
    def base_sample_shape(self) -> torch.Size:
        """Shape of the standard normal samples from which samples are made."""
        return self._extended_shape()

    @property
    def batch_range(self) -> tuple[int, int]:
        """All dimensions except the last two are batch dimensions."""
        return (0, -2)

    def _extended_shape(self, sample_shape: torch.Size = NONE) -> torch.Size:
        return torch.Size([*sample_shape, *self.bars.batch_shape, 1])

    def quantile(self, value: Tensor) -> Tensor:
        """Return quantiles, ``len(value) x batch_shape x q x 1``."""
        return torch.stack([self.bars.quantile(float(v)).unsqueeze(-1) for v in value])

    def density(self, value: Tensor) -> Tensor:
        """Return densities at scores, both ``batch_shape x q x 1``."""
        return self.bars.log_density(value.squeeze(-1)).exp().unsqueeze(-1)

    def rsample(self, sample_shape: torch.Size | None = None) -> Tensor:
        """Draw samples, ``sample_shape x batch_shape x q x 1``."""
        shape = self._extended_shape(sample_shape or torch.Size([1]))
        return self.rsample_from_base_samples(
            torch.Size(shape[: len(shape) - len(self._extended_shape())]),
            torch.randn(shape, dtype=self.dtype, device=self.device),
        )

    def rsample_from_base_samples(self, sample_shape: torch.Size, base_samples: Tensor) -> Tensor:
        """Transform normal samples by the quantile function; differentiable in the masses."""
        probabilities = torch.special.ndtr(base_samples).clamp(1e-9, 1.0 - 1e-9)
        flat = probabilities.expand(self._extended_shape(sample_shape)).squeeze(-1)
        return self.bars.quantile(flat).unsqueeze(-1)


@GetSampler.register(BarPosterior)
def _sampler(
    posterior: BarPosterior, sample_shape: torch.Size, *, seed: int | None = None
) -> SobolQMCNormalSampler:
    return SobolQMCNormalSampler(sample_shape=sample_shape, seed=seed)
