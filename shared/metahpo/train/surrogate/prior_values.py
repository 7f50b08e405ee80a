"""Effects that turn the prior's smooth functions into values like those of tuning problems.

Plateaus above and below, cliffs, skew, rounding, noise that is larger in some places, and units
and offsets of the tasks' own.

Notation: see ``episodes.py``; e inputs of the functions, k of the tasks, m points of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metahpo.train.draw import Draw


@dataclass(frozen=True, eq=False)
class ValueEffects:
    """Parameters of the effects, ``B x 1 x 1`` unless stated otherwise.

    Attributes:
        power: Exponent of the bowl, ``B x 1 x 1 x 1``.
        steep: Whether the random network has step units, ``B x 1 x 1 x 1``.
        skew: Of an exponential that lengthens one tail; 0 for none.
        ceiling: Score above which values level off; infinite for none.
        floor: Score below which values level off; infinite for none.
        cliff: ``B x e``, direction in which values fall beyond ``edge``; 0 for none.
        edge: Position of the cliff along that direction.
        fall: Height of the cliff.
        step: Values are rounded to multiples of it; 0 for none.
        noise: Logarithm of the noise's standard deviation.
        unit: ``B x tasks``, float64.
        offset: ``B x tasks``, float64.
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
    def random(cls, batch: int, tasks: int, inputs: int, draw: Draw) -> ValueEffects:
        """Draw parameters at random; each effect occurs in some of the families."""

        def some(share: float, values: Tensor, otherwise: float) -> Tensor:
            return torch.where(draw.bernoulli(share, batch, 1, 1), values, otherwise)

        one = (batch, 1, 1)
        common = draw.normal(batch, 1)
        own = draw.bernoulli(0.1, batch, 1) * 2.0 * draw.normal(batch, tasks)
        unit = (common + 0.3 * draw.normal(batch, tasks) + own).exp()
        steep = draw.normal(batch, inputs) * draw.bernoulli(2.0 / inputs, batch, inputs)
        return cls(
            power=draw.uniform(0.7, 2.5, batch, 1, 1, 1),
            steep=draw.bernoulli(0.3, batch, 1, 1, 1),
            skew=some(0.6, draw.uniform(-1.5, 0.7, *one), 0.0),
            ceiling=some(0.3, draw.uniform(-0.5, 2.0, *one), math.inf),
            floor=some(0.35, draw.uniform(-1.5, 0.3, *one), -math.inf),
            cliff=steep * draw.bernoulli(0.3, batch, 1),
            edge=draw.uniform(0.2, 1.2, *one),
            fall=10 ** draw.uniform(0, 1, *one),
            step=some(0.15, 10 ** draw.uniform(-2, -0.5, *one), 0.0),
            noise=some(0.8, draw.uniform(-7.0, -1.0, *one), -9.0),
            unit=unit.double(),
            offset=(3.0 * draw.normal(batch, 1) * common.exp()
                    + unit * draw.normal(batch, tasks)).double(),
        )  # fmt: skip

    def activated(self, hidden: Tensor) -> Tensor:
        """Apply the random network's activation function."""
        return torch.where(self.steep, (hidden > 0).float(), hidden.tanh())

    def apply(
        self, smooth: Tensor, inputs: Tensor, noise: Tensor, tasks: slice, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """Distort smooth values.

        Args:
            smooth: ``B x k x m``, standardised.
            inputs: ``B x k x m x e``.
            noise: ``B x k x m``, added to the logarithm of the noise's standard deviation.
            tasks: Which k of the tasks.
            draw: Source of the noise.

        Returns:
            As ``FunctionFamily.values``.
        """
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
