"""Families of inner problems on which the optimizer is meta-trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

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
    Transformer,
    WindowModel,
)
from metahpo.train.optimizer.inner_problems import Problem

# scikit-learn's data sets for meta-training.
TRAINING_TABLES = ("digits", "cancer", "wine")


def training_problems(
    extra: Sequence[Dataset] = (), device: torch.device | None = None
) -> list[Callable[[np.random.Generator], Problem]]:
    """Return families of problems, functions that draw a problem from a NumPy generator.

    Args:
        extra: Data sets in addition to scikit-learn's.
        device: Device of all data; the CPU by default.
    """
    families = ProblemFamilies(extra, device or torch.device("cpu"))
    return [
        families.mlp,
        families.convolutional,
        families.autoencoder,
        families.transformer,
        families.window_model,
    ]


class ProblemFamilies:
    """Families of problems that share data sets.

    Args:
        extra: Data sets in addition to scikit-learn's.
        device: Device of all data.
    """

    def __init__(self, extra: Sequence[Dataset], device: torch.device) -> None:
        digits, cancer, wine, *others = (
            data.to(device) for data in (*(tables()[name] for name in TRAINING_TABLES), *extra)
        )
        self.device = device
        self.images = [digits, *(data for data in others if data.image)]
        self.tables = [*self.images, cancer, wine, *(d for d in others if not d.image)]

    def mlp(self, random: np.random.Generator) -> Problem:
        """Draw a classifier: a multilayer perceptron on a table or on flattened images."""
        data = self.tables[random.integers(len(self.tables))]
        hidden = (int(random.choice([16, 32, 64, 128])),) * int(random.integers(1, 4))
        network = MLP(
            (data.inputs.shape[1], *hidden, data.classes),
            str(random.choice(["relu", "tanh", "gelu"])),
            bool(random.random() < 0.3),
        )
        return Problem(f"mlp-{data.name}", network, data, int(random.choice([32, 64])))

    def convolutional(self, random: np.random.Generator) -> Problem:
        """Draw a convolutional classifier of images."""
        data = self.images[random.integers(len(self.images))]
        channels = (int(random.choice([8, 12])), int(random.choice([12, 16])))
        network = Convolutional(data.image[0], channels, data.classes)  # type: ignore[index]
        return Problem(f"conv-{data.name}", network, data, 32)

    def autoencoder(self, random: np.random.Generator) -> Problem:
        """Draw an autoencoder of images."""
        data = self.images[random.integers(len(self.images))]
        width, inputs = int(random.choice([32, 64])), data.inputs.shape[1]
        network = MLP((inputs, width, 8, width, inputs), str(random.choice(["relu", "tanh"])))
        return Problem(f"autoencoder-{data.name}", network, data, 64, reconstruct=True)

    def _sequences(self, random: np.random.Generator, length: int) -> Dataset:
        tokens = int(random.choice([8, 12, 32, 96]))
        makers = [zipf_sequences]
        if tokens <= 12:
            makers += [markov_sequences, copied_sequences]
        make = makers[random.integers(len(makers))]
        return make(int(random.integers(1 << 30)), tokens, length, rows=2048).to(self.device)

    def transformer(self, random: np.random.Generator) -> Problem:
        """Draw a transformer that predicts the next tokens of sequences."""
        data, width = self._sequences(random, 12), int(random.choice([16, 24, 48]))
        network = Transformer(data.classes, 12, width, 2, int(random.integers(1, 3)))
        return Problem(f"transformer-{data.name}", network, data, 16)

    def window_model(self, random: np.random.Generator) -> Problem:
        """Draw a window model that predicts the next tokens of sequences."""
        data, width = self._sequences(random, 16), int(random.choice([8, 16, 32]))
        network = WindowModel(data.classes, 3, width, int(random.choice([32, 64])))
        return Problem(f"window-{data.name}", network, data, 16)
