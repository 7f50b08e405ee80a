"""The learned schedule: from training progress, and the loss if known, to step sizes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metahpo.optim.rule import Weights

# Progress enters the network as this many evenly spaced tanh steps (as in Celo).
PROGRESS = 9
FEATURES = PROGRESS + 3
HIDDEN = 8
# The network changes the logarithm of the step size by at most this much.
REACH = 2.0
# Training length with the reference step size; below the second number, steps grow no further.
USUAL_STEPS, LEAST_STEPS = 1000, 30
# Decay rates of the running means of the loss.
FAST, SLOW = 0.9, 0.99
# Losses are clipped here, because their squares would overflow.
LARGEST_LOSS = 1e15


class LossStatistics(NamedTuple):
    """Running means of the loss, each ``batch``; all zero before the first loss.

    Attributes:
        number: Number of losses.
        fast: Running mean with decay ``FAST``, in units of the loss.
        slow: Running mean with decay ``SLOW``.
        square: Running mean of squares with decay ``SLOW``.
    """

    number: Tensor
    fast: Tensor
    slow: Tensor
    square: Tensor

    def with_loss(self, loss: Tensor) -> LossStatistics:
        """Return the statistics with one more loss, ``batch``."""
        loss = loss.clamp(-LARGEST_LOSS, LARGEST_LOSS)
        return LossStatistics(
            self.number + 1,
            FAST * self.fast + (1 - FAST) * loss,
            SLOW * self.slow + (1 - SLOW) * loss,
            SLOW * self.square + (1 - SLOW) * loss.square(),
        )

    def features(self) -> Tensor:
        """Recent decrease of the loss in standard deviations, and its noise: ``batch x 2``."""
        known = self.number > 0
        count = self.number.clamp(min=1)
        fast = self.fast / (1 - FAST**count)
        slow = self.slow / (1 - SLOW**count)
        square = self.square / (1 - SLOW**count)
        deviation = (square - slow.square()).clamp(min=0).sqrt()
        decrease = torch.tanh((slow - fast) / (deviation + 1e-8))
        noise = torch.tanh(deviation / (slow.abs() + 1e-8))
        return torch.where(known[:, None], torch.stack([decrease, noise], -1), 0.0)


def no_losses(batch: int) -> LossStatistics:
    """The statistics before the first loss."""
    return LossStatistics(*torch.zeros(4, batch))


def step_sizes(weights: Weights, step: Tensor, num_steps: Tensor, losses: Tensor) -> Tensor:
    """Relative step sizes: peak size, horizon, warm-up and decay, times the network's factor.

    Steps shrink with a power of the number of steps. Past ``num_steps`` they keep the last value.

    Args:
        weights: With a leading batch dimension.
        step: ``batch``; counts from 0.
        num_steps: ``batch``.
        losses: ``batch x 2``, from ``LossStatistics.features``.

    Returns:
        ``batch x kinds``.
    """
    progress = (step / num_steps).clamp(0, 1)
    learned = REACH * torch.tanh(_network(weights, _features(progress, num_steps, losses)))
    horizon = (num_steps.clamp(min=LEAST_STEPS) / USUAL_STEPS).log()[:, None]
    size = weights["step.log_size"] - weights["step.horizon_power"] * horizon
    return shape(weights, progress)[:, None] * (size + learned).exp()


def shape(weights: Weights, progress: Tensor) -> Tensor:
    """The schedule without its network: linear warm-up, times a power of the remaining share.

    Args:
        weights: With a leading batch dimension.
        progress: ``batch``, in [0, 1].

    Returns:
        ``batch``, above 0 and at most 1.
    """
    warmup, floor, power = weights["schedule.log_shape"].exp().unbind(-1)
    rising = ((progress + 1e-3) / warmup).clamp(max=1)
    return rising * (floor + (1 - floor) * (1 - progress) ** power)


def _features(progress: Tensor, num_steps: Tensor, losses: Tensor) -> Tensor:
    centres = torch.linspace(0, 1, PROGRESS, dtype=progress.dtype, device=progress.device)
    steps = torch.tanh(PROGRESS * (progress[:, None] - centres))
    horizon = (num_steps / USUAL_STEPS).log()[:, None] / 4
    return torch.cat([steps, horizon, losses], -1)


def _network(weights: Weights, features: Tensor) -> Tensor:
    hidden = weights["schedule.first.weight"] @ features[..., None]
    hidden = torch.relu(hidden + weights["schedule.first.bias"][..., None])
    outputs = weights["schedule.last.weight"] @ hidden
    return (outputs + weights["schedule.last.bias"][..., None]).squeeze(-1)
