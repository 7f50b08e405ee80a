"""Inner problems: a network, data and a loss, evaluated for a batch of parameters at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from metahpo.train.optimizer.inner_data import (
    Dataset,
    markov_sequences,
    tables,
)
from metahpo.train.optimizer.inner_networks import (
    MLP,
    Convolutional,
    Network,
    Recurrent,
    Transformer,
)

# Reparametrisation factors are between this and its inverse.
MAX_FACTOR = 2.0


@dataclass(frozen=True, eq=False)
class Problem:
    """A training problem for an optimizer.

    Attributes:
        name: Its name in logs.
        network: The network to train.
        dataset: The data.
        rows: Size of a minibatch.
        reconstruct: Whether the targets are the inputs.
        factors: One for each parameter, by which the network multiplies it; empty for 1. A
            reparametrised problem is a different one for the optimizer (task augmentation, VeLO).
        gradient_noise: Standard deviation of noise on the gradients, relative to their root mean
            square.
    """

    name: str
    network: Network
    dataset: Dataset
    rows: int = 64
    reconstruct: bool = False
    factors: tuple[float, ...] = field(default=())
    gradient_noise: float = 0.0

    def initial(self, generator: torch.Generator) -> list[Tensor]:
        """Draw initial parameters, without the batch."""
        drawn = self.network.initial(generator)
        device = self.dataset.inputs.device
        return [(p / f).to(device) for p, f in zip(drawn, self._factors(drawn), strict=True)]

    def losses(self, parameters: Sequence[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each network: ``batch``.

        Args:
            parameters: ``batch x shape`` each.
            inputs: From ``Dataset.sample``, shared by all networks.
            targets: From ``Dataset.sample``, shared by all networks.
        """
        if self.factors:
            parameters = [p * f for p, f in zip(parameters, self.factors, strict=True)]
        outputs = self.network.forward(parameters, inputs)
        batch = len(outputs)
        if self.reconstruct:
            return (outputs - inputs).square().mean((1, 2))
        if not self.dataset.classes:
            return (outputs.squeeze(-1) - targets).square().mean(1)
        labels = targets.expand(batch, *targets.shape).flatten()
        entropies = functional.cross_entropy(outputs.flatten(0, -2), labels, reduction="none")
        return entropies.view(batch, -1).mean(1)

    def gradients(
        self, parameters: Sequence[Tensor], inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Return losses, ``batch``, and their gradients, ``batch x shape`` each."""
        leaves = [p.detach().requires_grad_() for p in parameters]
        losses = self.losses(leaves, inputs, targets)
        return losses.detach(), list(torch.autograd.grad(losses.sum(), leaves))

    def _factors(self, parameters: Sequence[Tensor]) -> tuple[float, ...]:
        return self.factors or (1.0,) * len(parameters)


def augmented(problem: Problem, random: np.random.Generator) -> Problem:
    """Reparametrise the problem (probability 0.5) and add gradient noise (probability 0.2)."""
    count = len(problem.network.parameters)
    if random.random() < 0.5:
        bound = np.log(MAX_FACTOR)
        # A common factor times one for each parameter.
        logs = random.uniform(-bound, bound) / 2 + random.uniform(-bound, bound, count) / 2
        problem = replace(problem, factors=tuple(np.exp(logs).tolist()))
    if random.random() < 0.2:
        problem = replace(problem, gradient_noise=float(random.uniform(0.0, 1.0)))
    return problem


def validation_problems() -> list[Problem]:
    """Return problems that differ from the training ones in data, depth, architecture or loss."""
    data = tables()
    return [
        Problem("regression", MLP((10, 48, 48, 1), "silu"), data["diabetes"], 32),
        Problem("deep", MLP((4, *(24,) * 5, 3), "silu"), data["iris"], 16),
        Problem("recurrent", Recurrent(10, 32), markov_sequences(1, 10, 16), 16),
        Problem("wide", MLP((64, 192, 192, 10), "relu"), data["digits"], 32),
        Problem("conv3", Convolutional(8, (16, 24, 32), 10, "silu"), data["digits"], 32),
        Problem("transformer", Transformer(20, 20, 32, 4, 2), markov_sequences(2, 20, 20), 16),
    ]
