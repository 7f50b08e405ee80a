"""Inner problems: a network, data and a loss, for a whole batch of parameters at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from metahpo.train.optimizer.inner_data import (
    Dataset,
    copied_sequences,
    markov_sequences,
    tables,
    zipf_sequences,
)
from metahpo.train.optimizer.inner_networks import (
    MLP,
    Convolutional,
    Network,
    Recurrent,
    Transformer,
    WindowModel,
)

# Of scikit-learn's data, those that are learned on.
OWN = ("digits", "cancer", "wine")
# Parameters are multiplied by a factor of at most this, or its inverse, in the augmentation.
LARGEST_FACTOR = 2.0


@dataclass(frozen=True, eq=False)
class Problem:
    """What an optimizer is trained or tried on.

    Attributes:
        name: For logs.
        network: Whose parameters are optimised.
        dataset: What it learns from.
        rows: Of a minibatch.
        reconstruct: Whether the targets are the inputs.
        factors: The network is given the parameters times these; one a parameter, empty for 1.
            Reparametrised problems are others to an optimizer (task augmentation, VeLO).
        gradient_noise: Deviation of noise on the gradients, relative to their root mean square.
    """

    name: str
    network: Network
    dataset: Dataset
    rows: int = 64
    reconstruct: bool = False
    factors: tuple[float, ...] = field(default=())
    gradient_noise: float = 0.0

    def initial(self, generator: torch.Generator) -> list[Tensor]:
        """Fresh parameters without the batch."""
        drawn = self.network.initial(generator)
        device = self.dataset.inputs.device
        return [(p / f).to(device) for p, f in zip(drawn, self._factors(drawn), strict=True)]

    def losses(self, parameters: Sequence[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each network of the batch: ``batch``.

        Args:
            parameters: ``batch x shape`` each.
            inputs: Shared, as ``Dataset.sample`` gives them.
            targets: Likewise.
        """
        if self.factors:
            parameters = [p * f for p, f in zip(parameters, self.factors, strict=True)]
        outputs = self.network.forward(parameters, inputs)
        batch = len(outputs)
        if self.reconstruct:
            return (outputs - inputs).square().mean((1, 2))
        if not self.dataset.classes:
            return (outputs.squeeze(-1) - targets).square().mean(1)
        wanted = targets.expand(batch, *targets.shape).flatten()
        each = functional.cross_entropy(outputs.flatten(0, -2), wanted, reduction="none")
        return each.view(batch, -1).mean(1)

    def gradients(
        self, parameters: Sequence[Tensor], inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Losses and their gradients, each ``batch x shape``."""
        leaves = [p.detach().requires_grad_() for p in parameters]
        losses = self.losses(leaves, inputs, targets)
        return losses.detach(), list(torch.autograd.grad(losses.sum(), leaves))

    def _factors(self, parameters: Sequence[Tensor]) -> tuple[float, ...]:
        return self.factors or (1.0,) * len(parameters)


def training_problems(
    extra: Sequence[Dataset] = (), device: torch.device | None = None
) -> list[Callable[..., Problem]]:
    """Families of problems; each draws one of its own from a NumPy generator.

    Args:
        extra: Data sets beside scikit-learn's.
        device: Where all data are to be; the CPU if not given.
    """
    device = device or torch.device("cpu")
    digits, cancer, wine, *extra = (
        data.to(device) for data in (*(tables()[name] for name in OWN), *extra)
    )
    images = [digits, *(data for data in extra if data.image)]
    flat = [*images, cancer, wine, *(data for data in extra if not data.image)]

    def mlp(random: np.random.Generator) -> Problem:
        data = flat[random.integers(len(flat))]
        hidden = (int(random.choice([16, 32, 64, 128])),) * int(random.integers(1, 4))
        network = MLP(
            (data.inputs.shape[1], *hidden, data.classes),
            str(random.choice(["relu", "tanh", "gelu"])),
            bool(random.random() < 0.3),
        )
        return Problem(f"mlp-{data.name}", network, data, int(random.choice([32, 64])))

    def convolutional(random: np.random.Generator) -> Problem:
        data = images[random.integers(len(images))]
        channels = (int(random.choice([8, 12])), int(random.choice([12, 16])))
        network = Convolutional(data.image[0], channels, data.classes)  # type: ignore[index]
        return Problem(f"conv-{data.name}", network, data, 32)

    def autoencoder(random: np.random.Generator) -> Problem:
        data = images[random.integers(len(images))]
        width, inputs = int(random.choice([32, 64])), data.inputs.shape[1]
        network = MLP((inputs, width, 8, width, inputs), str(random.choice(["relu", "tanh"])))
        return Problem(f"autoencoder-{data.name}", network, data, 64, reconstruct=True)

    def sequences(random: np.random.Generator, length: int) -> Dataset:
        tokens = int(random.choice([8, 12, 32, 96]))
        makers = [zipf_sequences]
        if tokens <= 12:
            makers += [markov_sequences, copied_sequences]
        make = makers[random.integers(len(makers))]
        return make(int(random.integers(1 << 30)), tokens, length, rows=2048).to(device)

    def transformer(random: np.random.Generator) -> Problem:
        data, width = sequences(random, 12), int(random.choice([16, 24, 48]))
        network = Transformer(data.classes, 12, width, 2, int(random.integers(1, 3)))
        return Problem(f"transformer-{data.name}", network, data, 16)

    def window_model(random: np.random.Generator) -> Problem:
        data, width = sequences(random, 16), int(random.choice([8, 16, 32]))
        network = WindowModel(data.classes, 3, width, int(random.choice([32, 64])))
        return Problem(f"window-{data.name}", network, data, 16)

    return [mlp, convolutional, autoencoder, transformer, window_model]


def augmented(problem: Problem, random: np.random.Generator) -> Problem:
    """Half of the time reparametrised, now and then with noise on the gradients."""
    count = len(problem.network.parameters)
    if random.random() < 0.5:
        reach = np.log(LARGEST_FACTOR)
        # One factor of the whole, and one of each parameter about it.
        logs = random.uniform(-reach, reach) / 2 + random.uniform(-reach, reach, count) / 2
        problem = replace(problem, factors=tuple(np.exp(logs).tolist()))
    if random.random() < 0.2:
        problem = replace(problem, gradient_noise=float(random.uniform(0.0, 1.0)))
    return problem


def validation_problems() -> list[Problem]:
    """Unlike the training ones in data, depth, kind of network or loss."""
    data = tables()
    return [
        Problem("regression", MLP((10, 48, 48, 1), "silu"), data["diabetes"], 32),
        Problem("deep", MLP((4, *(24,) * 5, 3), "silu"), data["iris"], 16),
        Problem("recurrent", Recurrent(10, 32), markov_sequences(1, 10, 16), 16),
        Problem("wide", MLP((64, 192, 192, 10), "relu"), data["digits"], 32),
        Problem("conv3", Convolutional(8, (16, 24, 32), 10, "silu"), data["digits"], 32),
        Problem("transformer", Transformer(20, 20, 32, 4, 2), markov_sequences(2, 20, 20), 16),
    ]
