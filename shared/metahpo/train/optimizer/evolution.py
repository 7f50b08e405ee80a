"""Persistent evolution strategies with antithetic pairs (Vicol, Metz & Sohl-Dickstein 2021).

The search is in standardised coordinates: one unit there is one ``spread`` of the weight, so that
a single standard deviation fits both step sizes and networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# Spreads of weights by the prefix of their names; the first match counts.
SPREADS = {
    "step.": 1.0,
    "schedule.log_shape": 1.0,
    "schedule.": 0.5,
    "rule.mix": 1.0,
    "rule.": 0.2,
}
# Added to the standard deviation of objectives: smaller differences carry no information.
MIN_DEVIATION = 0.01
# Weights that a phase learns, by the prefixes of their names: the constant part of the mixture of
# candidate directions, the whole rule, the schedule.
PHASES = {
    "mixture": ("rule.mix", "step."),
    "rule": ("rule.", "step."),
    "schedule": ("schedule.",),
}


def spread_of(name: str) -> float:
    """Return the unit of a weight in the search."""
    return next(value for prefix, value in SPREADS.items() if name.startswith(prefix))


def perturbations(
    weights: Mapping[str, Tensor], phase: str, pairs: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw standard normal directions of the phase's weights, ``pairs x shape`` each."""
    return {
        name: torch.randn(pairs, *tensor.shape, generator=generator).to(tensor.device)
        # Sorted, because a restored checkpoint has another order.
        for name, tensor in sorted(weights.items())
        if name.startswith(PHASES[phase])
    }


def perturbed(
    weights: Mapping[str, Tensor], directions: Mapping[str, Tensor], deviation: float
) -> dict[str, Tensor]:
    """Return the members' weights, ``(2 pairs) x shape`` each: plus, then minus the directions."""
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
    """Divide objectives by the spread between antithetic pairs, to weight problems equally.

    Args:
        objectives: ``2 pairs``, in the order of ``perturbed``.
    """
    plus, minus = objectives.chunk(2)
    deviation = (plus - minus).square().mean().sqrt() / 2**0.5
    return objectives / (deviation + MIN_DEVIATION)


def gradient(
    objectives: Tensor, accumulated: Mapping[str, Tensor], deviation: float
) -> dict[str, Tensor]:
    """Estimate the gradient in standardised coordinates.

    Args:
        objectives: ``2 pairs``, means over the last truncated unroll, to be minimised.
        accumulated: Sums of the directions since the start of the training, ``pairs x shape``
            each.
        deviation: Standard deviation of the perturbations.
    """
    plus, minus = objectives.chunk(2)
    slopes = (plus - minus) / (2 * deviation)
    return {
        name: torch.tensordot(slopes, total, dims=1) / len(slopes)
        for name, total in accumulated.items()
    }


@dataclass
class Adam:
    """Adam in standardised coordinates, with a state of plain tensors for checkpoints.

    Attributes:
        mean: Moving averages of the gradients.
        square: Moving averages of their squares.
        count: Number of updates of each weight.
    """

    mean: dict[str, Tensor]
    square: dict[str, Tensor]
    count: dict[str, int]

    @classmethod
    def start(cls, weights: Mapping[str, Tensor]) -> Adam:
        """Return the state before the first step."""
        return cls(
            {name: torch.zeros_like(t) for name, t in weights.items()},
            {name: torch.zeros_like(t) for name, t in weights.items()},
            dict.fromkeys(weights, 0),
        )

    def updated(
        self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], rate: float
    ) -> dict[str, Tensor]:
        """Return the weights after one step; those without a gradient are unchanged."""
        result = dict(weights)
        for name, slope in gradients.items():
            self.count[name] += 1
            mean = self.mean[name].lerp_(slope, 0.1)
            square = self.square[name].lerp_(slope.square(), 0.01)
            unbiased = mean / (1 - 0.9 ** self.count[name])
            root = (square / (1 - 0.99 ** self.count[name])).sqrt() + 1e-8
            result[name] = weights[name] - rate * spread_of(name) * unbiased / root
        return result
