"""Made-up functions of the prior: families of tasks, and what becomes of their values.

Functions are sums of a Gaussian process (random Fourier features: Rahimi and Recht 2007), a
random network and a bowl. Values then get what values of tuning problems have: plateaus above
and below, cliffs, skew, steps and noise that is larger in some places.

Notation: see ``episodes.py``; e = 2 d inputs of the functions, two a hyperparameter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metahpo.train.draw import Draw
from metahpo.train.surrogate.prior_spaces import CHOICES, RandomSpaces

# Features of the Gaussian process; functions that a family's tasks are mixed from; units of the
# network.
WAVES, BASIS, UNITS = 64, 4, 24


@dataclass(frozen=True, eq=False)
class Family:
    """The functions of B families; task 0 is the present one.

    Attributes:
        choice_places: ``B x d x CHOICES x 2``, inputs that stand for choices.
        bends: ``B x d``, exponents that bend a hyperparameter's axis.
        shifts: ``B x tasks x e``.
        frequencies: ``B x e x WAVES``.
        phases: ``B x WAVES``.
        amplitudes: ``B x tasks x WAVES``, of the Gaussian process.
        noise_amplitudes: ``B x WAVES``, of the logarithm of the noise.
        network: Two layers, ``B x e x UNITS`` and ``B x tasks x UNITS``.
        optimum: ``B x tasks x e``.
        curvature: ``B x e``.
        mixture: ``B x 3``, of the three parts.
        look: What becomes of the values.
        latent: ``B x tasks x BASIS``, what a task is mixed from.
        categorical: ``B x d``.
    """

    choice_places: Tensor
    bends: Tensor
    shifts: Tensor
    frequencies: Tensor
    phases: Tensor
    amplitudes: Tensor
    noise_amplitudes: Tensor
    network: tuple[Tensor, Tensor]
    optimum: Tensor
    curvature: Tensor
    mixture: Tensor
    look: Look
    latent: Tensor
    categorical: Tensor

    @classmethod
    def drawn(cls, batch: int, tasks: int, spaces: RandomSpaces, draw: Draw) -> Family:
        """Families on spaces."""
        d = spaces.levels.shape[1]
        latent = _latent(batch, tasks, draw)
        inverse_lengths = _inverse_lengthscales(spaces.description.present, draw)
        heavy = (5.0 / draw.normal(batch, 1, WAVES, 5).square().sum(-1)).sqrt()
        frequencies = inverse_lengths[..., None] * draw.normal(batch, 2 * d, WAVES) * heavy
        centre = draw.uniform(0, 1, batch, BASIS, 2 * d)
        weights = latent.softmax(-1)
        own = 10 ** draw.uniform(-2.5, -0.7, batch, 1, 1)
        relevance = (inverse_lengths * draw.normal(batch, 2 * d).exp()).square()
        return cls(
            choice_places=0.6 * draw.normal(batch, d, CHOICES, 2) + 0.5,
            bends=(0.4 * draw.normal(batch, d)).exp(),
            shifts=own * draw.normal(batch, tasks, 2 * d),
            frequencies=frequencies,
            phases=draw.uniform(0, 2 * math.pi, batch, WAVES),
            amplitudes=latent @ draw.normal(batch, BASIS, WAVES) * math.sqrt(2 / WAVES),
            noise_amplitudes=draw.normal(batch, WAVES) * math.sqrt(2 / WAVES),
            network=(
                inverse_lengths[..., None] * 2.0 * draw.normal(batch, 2 * d, UNITS),
                latent @ draw.normal(batch, BASIS, UNITS) / math.sqrt(UNITS),
            ),
            optimum=weights @ centre + own * draw.normal(batch, tasks, 2 * d),
            curvature=relevance / relevance.mean(-1, keepdim=True).clamp_min(1e-6) / (2 * d),
            mixture=draw.normal(batch, 3).square() * draw.chance(0.75, batch, 3) + 1e-2,
            look=Look.drawn(batch, tasks, 2 * d, draw),
            latent=latent,
            categorical=spaces.description.choices > 0,
        )

    def values(self, points: Tensor, tasks: slice, draw: Draw) -> tuple[Tensor, Tensor]:
        """Values at ``B x k x m x d`` points of k tasks.

        Returns:
            ``B x k x m``: as observed, and standardised without noise and units.
        """
        inputs = self._inputs(points)
        moved = inputs + self.shifts[:, tasks, None]
        projected = moved @ self.frequencies[:, None] + self.phases[:, None, None]
        waves = projected.cos()
        process = torch.einsum("bkmr,bkr->bkm", waves, self.amplitudes[:, tasks])
        first, last = self.network
        hidden = self.look.activated(moved @ first[:, None] + self.phases[:, None, None, :UNITS])
        network = torch.einsum("bkmu,bku->bkm", hidden, last[:, tasks])
        distance = (inputs - self.optimum[:, tasks, None]).abs() ** self.look.power
        bowl = -(distance * self.curvature[:, None, None]).sum(-1)
        parts = torch.stack([standard(process), standard(network), standard(bowl)], -1)
        smooth = standard((parts * self.mixture[:, None, None]).sum(-1))
        noise = (waves * self.noise_amplitudes[:, None, None]).sum(-1)
        return self.look.applied(smooth, inputs, noise, tasks, draw)

    def _inputs(self, points: Tensor) -> Tensor:
        """``B x k x m x e``; inactive ones are put in a place of their own."""
        active = ~points.isnan()
        position = torch.where(active, points, 0.5)
        bent = position.clamp_min(1e-6) ** self.bends[:, None, None]
        chosen = (position * (CHOICES - 1e-3)).long()
        batch, d = self.bends.shape
        rows = torch.arange(batch).view(batch, 1, 1, 1).expand_as(chosen)
        columns = torch.arange(d).expand_as(chosen)
        places = self.choice_places[rows, columns, chosen]
        numbers = torch.stack([bent, torch.full_like(bent, 0.5)], -1)
        inputs = torch.where(self.categorical[:, None, None, :, None], places, numbers)
        inputs = torch.where(active[..., None], inputs, self.choice_places[:, None, None, :, 0])
        return inputs.flatten(-2)

    def relevance(self, draw: Draw) -> Tensor:
        """``B x t``: what meta-features would tell of each past task; in half of the families."""
        latent = self.latent + 0.3 * draw.normal(*self.latent.shape)
        squares = (latent[:, 1:] - latent[:, :1]).square().mean(-1)
        weights = (-2.0 * squares).log_softmax(-1) + math.log(max(squares.shape[1], 1))
        return weights.clamp_min(-6.0) * draw.chance(0.5, len(squares), 1)


def _latent(batch: int, tasks: int, draw: Draw) -> Tensor:
    """What each task is mixed from: tasks of a family lie around a common centre.

    In some families, some past tasks lie anywhere, or opposite.
    """
    spread = 10 ** draw.uniform(-1.3, 0.2, batch, 1, 1)
    centre = draw.normal(batch, 1, BASIS)
    latent = centre + spread * draw.normal(batch, tasks, BASIS)
    share = draw.uniform(-0.6, 0.6, batch, 1).clamp_min(0.0)
    share = torch.where(draw.chance(0.06, batch, 1), 1.0, share)
    unrelated = draw.chance(share, batch, tasks)
    latent = torch.where(unrelated[..., None], 1.3 * draw.normal(batch, tasks, BASIS), latent)
    opposed = draw.chance(torch.where(draw.chance(0.06, batch, 1), 0.9, 0.03), batch, tasks)
    opposed[:, 0] = False
    return torch.where(opposed[..., None], -latent, latent)


def _inverse_lengthscales(present: Tensor, draw: Draw) -> Tensor:
    """``B x e``: few hyperparameters matter much, many little, absent ones not at all."""
    batch, d = present.shape
    count = present.sum(-1, keepdim=True)
    logs = 0.9 * draw.normal(batch, d) + math.log(2.5) - 0.5 * count.log()
    matters = (draw.chance(0.75, batch, d) & present).float()
    return (logs.exp() * matters).repeat_interleave(2, 1)


@dataclass(frozen=True, eq=False)
class Look:
    """What becomes of smooth values, ``B x ...`` each.

    Attributes:
        power: Of the bowl, ``B x 1 x 1 x 1``.
        steep: Which network's units are steps.
        skew: Of an exponential that lengthens one tail; 0 for none.
        ceiling: Scores at which values level off; infinite for none.
        floor: Likewise below.
        cliff: ``B x e``, the direction in which values fall at ``edge``; 0 for none.
        edge: Where.
        fall: How deep.
        step: Of rounded values; 0 for none.
        noise: Its logarithm.
        unit: ``B x tasks``.
        offset: ``B x tasks``.
    """

    power: Tensor
    steep: Tensor
    skew: Tensor
    ceiling: Tensor
    floor: Tensor
    cliff: Tensor
    edge: Tensor
    fall: Tensor
    step: Tensor
    noise: Tensor
    unit: Tensor
    offset: Tensor

    @classmethod
    def drawn(cls, batch: int, tasks: int, inputs: int, draw: Draw) -> Look:
        """At random; each oddity in some families."""

        def some(share: float, values: Tensor, otherwise: float) -> Tensor:
            return torch.where(draw.chance(share, batch, 1, 1), values, otherwise)

        one = (batch, 1, 1)
        usual = draw.normal(batch, 1)
        foreign = draw.chance(0.1, batch, 1) * 2.0 * draw.normal(batch, tasks)
        unit = (usual + 0.3 * draw.normal(batch, tasks) + foreign).exp()
        steep = draw.normal(batch, inputs) * draw.chance(2.0 / inputs, batch, inputs)
        return cls(
            power=draw.uniform(0.7, 2.5, batch, 1, 1, 1),
            steep=draw.chance(0.3, batch, 1, 1, 1),
            skew=some(0.6, draw.uniform(-1.5, 0.7, *one), 0.0),
            ceiling=some(0.3, draw.uniform(-0.5, 2.0, *one), math.inf),
            floor=some(0.35, draw.uniform(-1.5, 0.3, *one), -math.inf),
            cliff=steep * draw.chance(0.3, batch, 1),
            edge=draw.uniform(0.2, 1.2, *one),
            fall=10 ** draw.uniform(0, 1, *one),
            step=some(0.15, 10 ** draw.uniform(-2, -0.5, *one), 0.0),
            noise=some(0.8, draw.uniform(-7.0, -1.0, *one), -9.0),
            unit=unit.double(),
            offset=(3.0 * draw.normal(batch, 1) * usual.exp()
                    + unit * draw.normal(batch, tasks)).double(),
        )  # fmt: skip

    def activated(self, hidden: Tensor) -> Tensor:
        """The network's units."""
        return torch.where(self.steep, (hidden > 0).float(), hidden.tanh())

    def applied(
        self, smooth: Tensor, inputs: Tensor, noise: Tensor, tasks: slice, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """As ``Family.values`` returns."""
        skewed = torch.expm1(self.skew * smooth) / torch.where(self.skew == 0, 1.0, self.skew)
        values = torch.where(self.skew == 0, smooth, skewed)
        values = torch.minimum(torch.maximum(values, self.floor), self.ceiling)
        beyond = ((inputs - 0.5) * self.cliff[:, None, None]).sum(-1) > 0.3 * self.edge
        values = torch.where(beyond & (self.fall > 4), -self.fall.expand_as(values), values)
        values = torch.where(beyond & (self.fall <= 4), values - self.fall, values)
        spread = (self.noise + noise).clamp_max(0.0).exp()
        observed = values + spread * draw.normal(*values.shape)
        rounded = (observed / self.step.clamp_min(1e-6)).round() * self.step
        observed = torch.where(self.step > 0, rounded, observed).double()
        raw = self.offset[:, tasks, None] + self.unit[:, tasks, None] * observed
        return raw, values


def standard(values: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the last dimension, as far as they vary."""
    centred = values - values.mean(-1, keepdim=True)
    return centred / centred.std(-1, keepdim=True).clamp_min(1e-3)
