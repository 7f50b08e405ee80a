"""Synthetic functions of the prior: families of tasks.

A function is the sum of a Gaussian process (random Fourier features: Rahimi and Recht 2007), a
random network and a bowl. ``prior_values.py`` turns its smooth values into the values of a
tuning problem.

Notation: see ``episodes.py``; e = 2 d inputs of the functions, two for each hyperparameter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metahpo.train.draw import Draw
from metahpo.train.surrogate.prior_spaces import CHOICES, RandomSpaces
from metahpo.train.surrogate.prior_values import ValueEffects

# Fourier features of the Gaussian process; basis functions of a family; units of the network.
WAVES, BASIS, UNITS = 64, 4, 24


@dataclass(frozen=True, eq=False)
class FunctionFamily:
    """The functions of B families; task 0 is the present one.

    Attributes:
        choice_places: ``B x d x CHOICES x 2``, inputs that represent choices.
        bends: ``B x d``, exponents that warp the axes of hyperparameters.
        shifts: ``B x tasks x e``, shifts of the tasks' inputs.
        frequencies: ``B x e x WAVES``, of the Gaussian process.
        phases: ``B x WAVES``, of the Gaussian process.
        amplitudes: ``B x tasks x WAVES``, of the Gaussian process.
        noise_amplitudes: ``B x WAVES``, of the logarithm of the noise.
        network: Weights of two layers, ``B x e x UNITS`` and ``B x tasks x UNITS``.
        optimum: ``B x tasks x e``, of the bowl.
        curvature: ``B x e``, of the bowl.
        mixture: ``B x 3``, weights of the three parts.
        effects: Distortions of the values.
        latent: ``B x tasks x BASIS``, mixing weights of the basis functions.
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
    effects: ValueEffects
    latent: Tensor
    categorical: Tensor

    @classmethod
    def random(cls, batch: int, tasks: int, spaces: RandomSpaces, draw: Draw) -> FunctionFamily:
        """Draw a family on each of B spaces."""
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
            mixture=draw.normal(batch, 3).square() * draw.bernoulli(0.75, batch, 3) + 1e-2,
            effects=ValueEffects.random(batch, tasks, 2 * d, draw),
            latent=latent,
            categorical=spaces.description.choices > 0,
        )

    def values(self, points: Tensor, tasks: slice, draw: Draw) -> tuple[Tensor, Tensor]:
        """Evaluate the functions.

        Args:
            points: ``B x k x m x d``, m points for each of k tasks.
            tasks: Which k of the tasks.
            draw: Source of the noise.

        Returns:
            Two tensors ``B x k x m``: values as observed, and standardised values without noise.
        """
        inputs = self._inputs(points)
        moved = inputs + self.shifts[:, tasks, None]
        projected = moved @ self.frequencies[:, None] + self.phases[:, None, None]
        waves = projected.cos()
        process = torch.einsum("bkmr,bkr->bkm", waves, self.amplitudes[:, tasks])
        first, last = self.network
        hidden = self.effects.activated(
            moved @ first[:, None] + self.phases[:, None, None, :UNITS]
        )
        network = torch.einsum("bkmu,bku->bkm", hidden, last[:, tasks])
        distance = (inputs - self.optimum[:, tasks, None]).abs() ** self.effects.power
        bowl = -(distance * self.curvature[:, None, None]).sum(-1)
        parts = torch.stack([standard(process), standard(network), standard(bowl)], -1)
        smooth = standard((parts * self.mixture[:, None, None]).sum(-1))
        noise = (waves * self.noise_amplitudes[:, None, None]).sum(-1)
        return self.effects.apply(smooth, inputs, noise, tasks, draw)

    def _inputs(self, points: Tensor) -> Tensor:
        """``B x k x m x e``; inactive hyperparameters get inputs of their own."""
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
        """Draw ``B x t`` log relevances of past tasks, as meta-features would give them.

        Half of the families have none, which is coded as 0.
        """
        latent = self.latent + 0.3 * draw.normal(*self.latent.shape)
        squares = (latent[:, 1:] - latent[:, :1]).square().mean(-1)
        weights = (-2.0 * squares).log_softmax(-1) + math.log(max(squares.shape[1], 1))
        return weights.clamp_min(-6.0) * draw.bernoulli(0.5, len(squares), 1)


def _latent(batch: int, tasks: int, draw: Draw) -> Tensor:
    """Draw ``B x tasks x BASIS`` mixing weights, scattered around a common centre.

    In some families, some past tasks are unrelated to the centre, or its negative.
    """
    spread = 10 ** draw.uniform(-1.3, 0.2, batch, 1, 1)
    centre = draw.normal(batch, 1, BASIS)
    latent = centre + spread * draw.normal(batch, tasks, BASIS)
    share = draw.uniform(-0.6, 0.6, batch, 1).clamp_min(0.0)
    share = torch.where(draw.bernoulli(0.06, batch, 1), 1.0, share)
    unrelated = draw.bernoulli(share, batch, tasks)
    latent = torch.where(unrelated[..., None], 1.3 * draw.normal(batch, tasks, BASIS), latent)
    opposed = draw.bernoulli(torch.where(draw.bernoulli(0.06, batch, 1), 0.9, 0.03), batch, tasks)
    opposed[:, 0] = False
    return torch.where(opposed[..., None], -latent, latent)


def _inverse_lengthscales(present: Tensor, draw: Draw) -> Tensor:
    """Draw ``B x e``: a few hyperparameters matter much, many little, absent ones not at all."""
    batch, d = present.shape
    count = present.sum(-1, keepdim=True)
    logs = 0.9 * draw.normal(batch, d) + math.log(2.5) - 0.5 * count.log()
    matters = (draw.bernoulli(0.75, batch, d) & present).float()
    return (logs.exp() * matters).repeat_interleave(2, 1)


def standard(values: Tensor) -> Tensor:
    """Standardise to mean 0 and variance 1 over the last dimension; constants become 0."""
    centred = values - values.mean(-1, keepdim=True)
    return centred / centred.std(-1, keepdim=True).clamp_min(1e-3)
