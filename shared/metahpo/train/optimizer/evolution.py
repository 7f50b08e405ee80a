"""Persistent evolution strategies with antithetic pairs (Vicol, Metz & Sohl-Dickstein 2021).

Weights are searched in standardised coordinates: a step of one there is a ``spread`` of the
weight, so that one deviation suits step sizes and networks alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# Spread by the beginning of a weight's name; the first that fits.
SPREADS = {
    "step.": 1.0,
    "schedule.log_shape": 1.0,
    "schedule.": 0.5,
    "rule.mix": 1.0,
    "rule.": 0.2,
}
# Objectives that differ by less than this have nothing to say.
LEAST_DEVIATION = 0.01
# Weights that a phase learns, by the beginning of their names: how the rule mixes its candidates
# where its network has no say, the whole rule, the schedule.
PHASES = {
    "mixture": ("rule.mix", "step."),
    "rule": ("rule.", "step."),
    "schedule": ("schedule.",),
}


def spread_of(name: str) -> float:
    """The unit of a weight in the search."""
    return next(value for prefix, value in SPREADS.items() if name.startswith(prefix))


def perturbations(
    weights: Mapping[str, Tensor], phase: str, pairs: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Standard normal directions of the phase's weights, ``pairs x shape`` each."""
    return {
        name: torch.randn(pairs, *tensor.shape, generator=generator).to(tensor.device)
        # In an order that a checkpoint does not change.
        for name, tensor in sorted(weights.items())
        if name.startswith(PHASES[phase])
    }


def perturbed(
    weights: Mapping[str, Tensor], directions: Mapping[str, Tensor], deviation: float
) -> dict[str, Tensor]:
    """Weights of all members: ``2 pairs x shape``, first those along the directions."""
    pairs = len(next(iter(directions.values())))
    members = {}
    for name, tensor in weights.items():
        if name in directions:
            offset = deviation * spread_of(name) * directions[name]
            members[name] = torch.cat([tensor + offset, tensor - offset])
        else:
            members[name] = tensor.expand(2 * pairs, *tensor.shape)
    return members


def standardised(objectives: Tensor) -> Tensor:
    """In deviations of what the antithetic pairs differ by, so that each problem counts alike.

    Args:
        objectives: ``2 pairs``, as ``gradient`` takes them.
    """
    there, back = objectives.chunk(2)
    deviation = (there - back).square().mean().sqrt() / 2**0.5
    return objectives / (deviation + LEAST_DEVIATION)


def gradient(
    objectives: Tensor, accumulated: Mapping[str, Tensor], deviation: float
) -> dict[str, Tensor]:
    """The estimate of the gradient in standardised coordinates.

    Args:
        objectives: ``2 pairs``: means over the last truncated unroll, to be minimised.
        accumulated: Sums of the directions since each training began, ``pairs x shape`` each.
        deviation: Of the perturbations.
    """
    there, back = objectives.chunk(2)
    slopes = (there - back) / (2 * deviation)
    return {
        name: torch.tensordot(slopes, total, dims=1) / len(slopes)
        for name, total in accumulated.items()
    }


@dataclass
class Adam:
    """Adam on the weights' standardised coordinates; kept apart to be saved as plain tensors."""

    mean: dict[str, Tensor]
    square: dict[str, Tensor]
    count: dict[str, int]

    @classmethod
    def start(cls, weights: Mapping[str, Tensor]) -> Adam:
        """Before the first step."""
        return cls(
            {name: torch.zeros_like(t) for name, t in weights.items()},
            {name: torch.zeros_like(t) for name, t in weights.items()},
            dict.fromkeys(weights, 0),
        )

    def updated(
        self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], rate: float
    ) -> dict[str, Tensor]:
        """The weights one step on; those without a gradient as they were."""
        result = dict(weights)
        for name, slope in gradients.items():
            self.count[name] += 1
            mean = self.mean[name].lerp_(slope, 0.1)
            square = self.square[name].lerp_(slope.square(), 0.01)
            unbiased = mean / (1 - 0.9 ** self.count[name])
            root = (square / (1 - 0.99 ** self.count[name])).sqrt() + 1e-8
            result[name] = weights[name] - rate * spread_of(name) * unbiased / root
        return result
