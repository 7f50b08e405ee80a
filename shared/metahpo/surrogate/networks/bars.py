"""Bar distributions, the output of the neural surrogates, and their closed-form quantities.

A bar (Riemann) distribution is a histogram with predicted masses over fixed borders. Its outer
bars are half Gaussians, so that no value has density zero (Mueller et al. 2022, "Transformers can
do Bayesian inference", section 4.1).

Notation: K bars, K - 1 borders b_1 < ... < b_{K-1}; bar k covers [b_{k-1}, b_k], the first bar
everything below b_1 and the last one everything above b_{K-1}.
"""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

ROOT_TWO_OVER_PI = math.sqrt(2.0 / math.pi)
SMALLEST = 1e-30


def check_bars(borders: Tensor, tails: Tensor) -> None:
    """Raise ValueError for borders that do not ascend, and tails that are not positive."""
    if bool((borders.diff() < 0).any()) or not bool((tails > 0).all()):
        raise ValueError("its bars have borders that do not ascend or tails without a width")


class BarDistribution:
    """Independent distributions over scores, one for each element of the batch.

    Args:
        logits: ``batch_shape x K``, unnormalised log masses of the bars.
        borders: ``K - 1``, ascending.
        tails: ``2``, standard deviations of the half Gaussians below and above.
    """

    def __init__(self, logits: Tensor, borders: Tensor, tails: Tensor) -> None:
        self.borders, self.tails = borders.to(logits.dtype), tails.to(logits.dtype)
        self.log_masses = logits.log_softmax(-1)

    @cached_property
    def masses(self) -> Tensor:
        """Masses of the bars, ``batch_shape x K``; they sum to 1."""
        return self.log_masses.exp()

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the batch of distributions."""
        return self.log_masses.shape[:-1]

    @property
    def _ends(self) -> tuple[Tensor, Tensor]:
        """Lower and upper ends of the inner bars, ``K - 2`` each."""
        return self.borders[:-1], self.borders[1:]

    # ---- moments ---------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        """Means, ``batch_shape``."""
        return self.masses @ self._bar_means

    @property
    def variance(self) -> Tensor:
        """Variances, ``batch_shape``."""
        # Around the mean, bar by bar: the difference of two large squares would lose precision.
        return (self.masses * (self._bar_variances + self._distances.square())).sum(-1)

    @property
    def _distances(self) -> Tensor:
        return self._bar_means - self.mean.unsqueeze(-1)

    @cached_property
    def _bar_means(self) -> Tensor:
        low, high = self._ends
        below = self.borders[:1] - ROOT_TWO_OVER_PI * self.tails[:1]
        above = self.borders[-1:] + ROOT_TWO_OVER_PI * self.tails[1:]
        return torch.cat([below, (low + high) / 2, above])

    @cached_property
    def _bar_variances(self) -> Tensor:
        low, high = self._ends
        outer = self.tails.square() * (1.0 - 2.0 / math.pi)
        return torch.cat([outer[:1], (high - low).square() / 12, outer[1:]])

    # ---- densities -------------------------------------------------------------------------

    def log_density(self, scores: Tensor) -> Tensor:
        """Return log densities.

        Args:
            scores: ``batch_shape``.

        Returns:
            ``batch_shape``.
        """
        bars = torch.bucketize(scores, self.borders)
        masses = self.log_masses.gather(-1, bars.unsqueeze(-1)).squeeze(-1)
        low, high = self._ends
        widths = torch.cat([self.tails[:1], high - low, self.tails[1:]])
        # In the tails, a half Gaussian instead of a uniform density.
        last = len(self.borders)
        outside = torch.where(bars == 0, self.borders[0] - scores, scores - self.borders[-1])
        z = outside / widths[bars]
        half_gaussian = math.log(ROOT_TWO_OVER_PI) - 0.5 * z.square()
        in_tail = (bars == 0) | (bars == last)
        zero = torch.zeros_like(z)
        return masses - widths[bars].log() + torch.where(in_tail, half_gaussian, zero)

    def cdf(self, scores: Tensor) -> Tensor:
        """Return the probability of a smaller score.

        Args:
            scores: Broadcasts with ``batch_shape``.

        Returns:
            ``batch_shape``.
        """
        return (self.masses * self._shares_below(scores.unsqueeze(-1))).sum(-1)

    def _shares_below(self, scores: Tensor) -> Tensor:
        """Return the share of each bar below ``... x 1`` scores: ``... x K``."""
        low, high = self._ends
        inner = ((scores - low) / (high - low)).clamp(0.0, 1.0)
        below = (self.borders[:1] - scores).clamp_min(0.0) / self.tails[:1]
        above = (scores - self.borders[-1:]).clamp_min(0.0) / self.tails[1:]
        root = math.sqrt(2.0)
        return torch.cat([torch.erfc(below / root), inner, torch.erf(above / root)], -1)

    def quantile(self, probability: float | Tensor) -> Tensor:
        """Return quantiles; differentiable in the masses.

        Args:
            probability: In (0, 1); a number, ``batch_shape`` or ``sample_shape x batch_shape``.

        Returns:
            ``batch_shape`` or ``sample_shape x batch_shape``.
        """
        levels = torch.as_tensor(probability, dtype=self.masses.dtype, device=self.masses.device)
        shape = torch.broadcast_shapes(levels.shape, self.batch_shape)
        levels = levels.expand(shape).contiguous()
        masses = self.masses.expand(*shape, -1)
        cumulative = masses.cumsum(-1)
        bars = torch.searchsorted(cumulative[..., :-1].contiguous(), levels.unsqueeze(-1))
        mass = masses.gather(-1, bars)
        before = cumulative.gather(-1, bars) - mass
        share = ((levels.unsqueeze(-1) - before) / mass.clamp_min(SMALLEST)).squeeze(-1)
        bars = bars.squeeze(-1)
        last = len(self.borders)
        inner = bars.clamp(1, last - 1)
        low, high = self.borders[inner - 1], self.borders[inner]
        inside = low + (high - low) * share.clamp(0.0, 1.0)
        # The tails end at the precision of float32.
        far = share.clamp(1e-7, 1.0 - 1e-7)
        below = self.borders[0] + self.tails[0] * torch.special.ndtri(far / 2)
        above = self.borders[-1] + self.tails[1] * torch.special.ndtri((1 + far) / 2)
        return torch.where(bars == 0, below, torch.where(bars == last, above, inside))

    # ---- improvement -----------------------------------------------------------------------

    def expected_improvement(self, best: float | Tensor) -> Tensor:
        """Return the expected improvement, E max(score - best, 0).

        Args:
            best: The score to improve on; a number or ``batch_shape``.

        Returns:
            ``batch_shape``.
        """
        best = torch.as_tensor(best, dtype=self.masses.dtype, device=self.masses.device)
        return (self.masses * self._improvements(best.unsqueeze(-1))).sum(-1)

    def _improvements(self, best: Tensor) -> Tensor:
        """Return each bar's expected improvement over ``... x 1`` scores: ``... x K``."""
        low, high = self._ends
        above = (high - best).clamp_min(0.0)
        # A bar partly above `best` contributes a triangle, one fully above its midpoint.
        partly = above.square() / (2 * (high - low))
        inner = torch.where(best < low, (low + high) / 2 - best, partly)
        below = _shortfall((self.borders[:1] - best).clamp_min(0.0), self.tails[:1])
        gap = self.borders[-1:] - best
        beyond = _excess((-gap).clamp_min(0.0), self.tails[1:]) + gap.clamp_min(0.0)
        return torch.cat([below, inner, beyond], -1)


def _excess(distance: Tensor, deviation: Tensor) -> Tensor:
    """Return E max(|X| - distance, 0) for X ~ N(0, deviation^2) and non-negative distance."""
    z = distance / deviation
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2.0 * math.pi)
    # erfc(z / sqrt(2)) is 2 (1 - Phi(z)) without cancellation.
    return 2.0 * deviation * density - distance * torch.erfc(z / math.sqrt(2.0))


def _shortfall(distance: Tensor, deviation: Tensor) -> Tensor:
    """Return E max(distance - |X|, 0) for X ~ N(0, deviation^2) and non-negative distance."""
    return distance - ROOT_TWO_OVER_PI * deviation + _excess(distance, deviation)
