"""Reptile: weights from which a few gradient steps on one family of tasks lead far.

Nichol et al. 2018, "On first-order meta-learning algorithms", section 3, in its serial form: from
the weights w, k gradient steps on one family give w'; then w moves towards w' by a rate that falls
from 1 to 0 over the training (their section 6). It is a first-order relative of MAML (Finn et al.
2017) that needs no held-out tasks within an inner training. The prior counts as one family.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

Named = Iterable[tuple[str, Tensor]]


class Reptile:
    """The outer weights, beside a network that takes the inner steps.

    Args:
        parameters: The network's, by name.
        inner_steps: k.
    """

    def __init__(self, parameters: Named, inner_steps: int) -> None:
        self.inner_steps = inner_steps
        self.weights = [(name, parameter.detach().clone()) for name, parameter in parameters]

    def after(self, step: int, parameters: Named, rate: float) -> None:
        """To be called after each gradient step; every k of them, the outer weights move.

        Args:
            step: How many gradient steps there have been.
            parameters: The network's. After an outer step they begin anew where that led.
            rate: Of the outer step.
        """
        if step % self.inner_steps:
            return
        with torch.no_grad():
            for (_, weight), (_, parameter) in zip(self.weights, parameters, strict=True):
                weight.lerp_(parameter, rate)
                parameter.copy_(weight)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The outer weights from a checkpoint."""
        self.weights = [(name, tensors[name]) for name, _ in self.weights]
