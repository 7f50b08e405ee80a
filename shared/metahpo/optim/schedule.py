"""The learned schedule: from training progress, and the loss where it is known, to step sizes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metahpo.optim.rule import Weights

# Progress is seen through this many steps of tanh, evenly spread (Celo uses nine).
PROGRESS = 9
FEATURES = PROGRESS + 3
HIDDEN = 8
# The network multiplies the step size by at most e to this power, either way.
REACH = 2.0
# The horizon to which others are compared, and the least that makes steps longer.
USUAL_STEPS, LEAST_STEPS = 1000, 30
FAST, SLOW = 0.9, 0.99
# Losses count as no larger: their squares would overflow.
LARGEST_LOSS = 1e15


class LossStatistics(NamedTuple):
    """Running means of the loss, each ``batch``; all zero where no loss was seen.

    Shape and unit are the loss's own, except ``seen``, a count.
    """

    seen: Tensor
    fast: Tensor
    slow: Tensor
    square: Tensor

    def with_loss(self, loss: Tensor) -> LossStatistics:
        """With one more loss."""
        loss = loss.clamp(-LARGEST_LOSS, LARGEST_LOSS)
        return LossStatistics(
            self.seen + 1,
            FAST * self.fast + (1 - FAST) * loss,
            SLOW * self.slow + (1 - SLOW) * loss,
            SLOW * self.square + (1 - SLOW) * loss.square(),
        )

    def features(self) -> Tensor:
        """Whether the loss falls, in its own deviations, and how noisy it is: ``batch x 2``."""
        known = self.seen > 0
        seen = self.seen.clamp(min=1)
        fast = self.fast / (1 - FAST**seen)
        slow = self.slow / (1 - SLOW**seen)
        square = self.square / (1 - SLOW**seen)
        deviation = (square - slow.square()).clamp(min=0).sqrt()
        falls = torch.tanh((slow - fast) / (deviation + 1e-8))
        noise = torch.tanh(deviation / (slow.abs() + 1e-8))
        return torch.where(known[:, None], torch.stack([falls, noise], -1), 0.0)


def no_losses(batch: int) -> LossStatistics:
    """The statistics before the first loss."""
    return LossStatistics(*torch.zeros(4, batch))


def step_sizes(weights: Weights, step: Tensor, num_steps: Tensor, losses: Tensor) -> Tensor:
    """The relative step sizes: horizon, warm-up, decay, and what the network makes of them.

    The longer a training, the shorter its steps: by a learned power of its number of steps. Past
    ``num_steps`` they stay at the last value.

    Args:
        weights: With a leading batch dimension.
        step: ``batch``; counts from 0.
        num_steps: ``batch``.
        losses: ``batch x 2``, as ``LossStatistics.features`` gives them.

    Returns:
        ``batch x kinds``.
    """
    progress = (step / num_steps).clamp(0, 1)
    learned = REACH * torch.tanh(_network(weights, _features(progress, num_steps, losses)))
    horizon = (num_steps.clamp(min=LEAST_STEPS) / USUAL_STEPS).log()[:, None]
    size = weights["step.log_size"] - weights["step.horizon_power"] * horizon
    return shape(weights, progress)[:, None] * (size + learned).exp()


def shape(weights: Weights, progress: Tensor) -> Tensor:
    """The schedule without its network: linear warm-up, then a power of what remains.

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
