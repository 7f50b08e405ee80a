"""A learned similarity: two tasks are alike if they rank configurations alike.

A Siamese network (Bromley et al. 1993) maps the meta-features of a task to a few numbers, such
that the inner product of two tasks' numbers is near the rank correlation of their performance
on the same configurations. Hand-made distances count all meta-features alike; this one counts
what has mattered.

Notation: t tasks, f meta-features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from metahpo.similarity.description import Standardiser
from metahpo.similarity.neighbours import shrunk
from metahpo.tasks.space import Array

# The archive has few tasks: small networks, much weight decay, noise on the inputs, several
# networks averaged.
WIDTH = 32
EMBEDDING = 8
NETWORKS = 5
STEPS = 200
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 3e-2
INPUT_NOISE = 0.3
DROPPED_INPUTS = 0.2


class LearnedMetric:
    """Past tasks weighed by how alike they are expected to rank configurations.

    Args:
        temperature: Of the softmax over the expected rank correlations; the smaller, the fewer
            past tasks count.
        shrinkage: What share of the weight all tasks have alike.
        seed: Of the training.
    """

    def __init__(self, *, temperature: float = 0.1, shrinkage: float = 0.0, seed: int = 0) -> None:
        self.temperature, self.shrinkage, self._seed = temperature, shrinkage, seed

    def fit(self, past: Sequence[Mapping[str, float]], performance: Array) -> LearnedMetric:
        """Trains the networks.

        Args:
            past: t past tasks' meta-features.
            performance: t x m, of m configurations.
        """
        self._standardiser = Standardiser(past)
        table = torch.as_tensor(np.nan_to_num(self._standardiser.table), dtype=torch.float32)
        self._networks: list[nn.Module] = []
        if table.shape[1] and len(past) > 2:
            alike = torch.as_tensor(rank_correlations(performance), dtype=torch.float32)
            self._networks = [
                _trained(table, alike, self._seed + number) for number in range(NETWORKS)
            ]
        self._table = table
        return self

    def expected_correlations(self, present: Mapping[str, float]) -> Array:
        """T expected rank correlations with the past tasks, in [-1, 1]."""
        own = torch.as_tensor(np.nan_to_num(self._standardiser(present)), dtype=torch.float32)
        with torch.no_grad():
            alike = [network(self._table) @ network(own[None])[0] for network in self._networks]
        return torch.stack(alike).mean(dim=0).double().numpy()

    def weights(self, present: Mapping[str, float]) -> Array:
        """T weights that sum to 1."""
        if not self._networks:
            return np.full(len(self._table), 1.0 / len(self._table))
        alike = self.expected_correlations(present)
        return shrunk(np.exp((alike - alike.max()) / self.temperature), self.shrinkage)

    @property
    def importance(self) -> dict[str, float]:
        """Shares of the meta-features in the change of the embedding, largest first."""
        if not self._networks:
            return {}
        change = np.zeros(self._table.shape[1])
        for network in self._networks:
            jacobian = torch.func.vmap(torch.func.jacrev(_single(network)))(self._table)
            change += (jacobian.detach() ** 2).sum(dim=(0, 1)).double().numpy()
        shares = np.sqrt(change) / np.sqrt(change).sum()
        order = np.argsort(-shares, kind="stable")
        return {self._standardiser.names[index]: float(shares[index]) for index in order}


def rank_correlations(performance: Array) -> Array:
    """T x t, Spearman's, of t x m performances; 0 with a task where all is equal."""
    ranks = rankdata(performance, axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    sizes = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(sizes > 0, sizes, 1.0)
    return unit @ unit.T


class _Embedding(nn.Module):
    """Descriptions (``batch_shape x f``) to vectors of length 1."""

    def __init__(self, features: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = nn.Linear(features, EMBEDDING)
        self.hidden = nn.Linear(features, WIDTH)
        self.out = nn.Linear(WIDTH, EMBEDDING, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                scale = parameter.shape[1] ** -0.5
                nn.init.normal_(parameter, std=scale, generator=generator)
            else:
                nn.init.zeros_(parameter)
        # A constant part: tasks are alike before anything is known of them.
        with torch.no_grad():
            self.linear.bias[0] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.linear(x) + self.out(torch.tanh(self.hidden(x)))
        return nn.functional.normalize(embedded, dim=-1)


def _single(network: nn.Module):
    return lambda x: network(x[None])[0]


def _trained(table: Tensor, alike: Tensor, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    network = _Embedding(table.shape[1], generator)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    pairs = 1.0 - torch.eye(len(table))
    for _ in range(STEPS):
        noisy = table + INPUT_NOISE * torch.randn(table.shape, generator=generator)
        kept = torch.rand(table.shape, generator=generator) >= DROPPED_INPUTS
        embedded = network(noisy * kept)
        loss = (pairs * (embedded @ embedded.T - alike) ** 2).sum() / pairs.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()
