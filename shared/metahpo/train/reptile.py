"""Reptile: initial weights from which a few gradient steps on one family of tasks lead far.

Nichol et al. 2018, "On first-order meta-learning algorithms", section 3, in its serial form: from
the weights w, k gradient steps on one family give w'; then w moves towards w' by a rate that falls
from 1 to 0 over the training (their section 6). It is a first-order relative of MAML (Finn et al.
2017) that needs no held-out tasks within an inner training. The prior counts as one family.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

NamedTensors = Iterable[tuple[str, Tensor]]


class Reptile:
    """The outer weights of a network that takes the inner steps.

    Args:
        parameters: The network's parameters by name.
        inner_steps: k, gradient steps between two outer steps.

    Attributes:
        weights: The outer weights by name.
    """

    def __init__(self, parameters: NamedTensors, inner_steps: int) -> None:
        self.inner_steps = inner_steps
        self.weights = [(name, parameter.detach().clone()) for name, parameter in parameters]

    def after_step(self, step: int, parameters: NamedTensors, rate: float) -> None:
        """Move the outer weights if an inner training is complete; call after each gradient step.

        Args:
            step: Number of gradient steps so far.
            parameters: The network's parameters; an outer step resets them to the outer weights.
            rate: Outer learning rate, in [0, 1].
        """
        if step % self.inner_steps:
            return
        with torch.no_grad():
            for (_, weight), (_, parameter) in zip(self.weights, parameters, strict=True):
                weight.lerp_(parameter, rate)
                parameter.copy_(weight)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the outer weights to those of a checkpoint."""
        self.weights = [(name, tensors[name]) for name, _ in self.weights]
