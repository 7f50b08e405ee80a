"""A learned similarity: two tasks are similar if they rank configurations alike.

A Siamese network (Bromley et al. 1993) embeds the meta-features of a task, such that the inner
product of two embeddings approximates the rank correlation of the tasks' performance on the
same configurations. Unlike a fixed distance, it learns which meta-features matter.

Notation: t past tasks, f meta-features, m configurations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Self

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from metahpo.similarity.metafeature_scaling import Standardiser
from metahpo.similarity.similarity import shrink
from metahpo.tasks.space import Array

# An archive has few tasks, hence the regularisation: small networks, strong weight decay, noise
# and dropout on the inputs, and an average over several networks.
WIDTH = 32
EMBEDDING = 8
NETWORKS = 5
STEPS = 200
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 3e-2
INPUT_NOISE = 0.3
INPUT_DROPOUT = 0.2


class LearnedMetric:
    """Weights by a softmax over the rank correlations that a Siamese network predicts.

    Args:
        temperature: Temperature of the softmax; a low one concentrates the weight on few tasks.
        shrinkage: Fraction of the total weight that is spread equally over all tasks.
        seed: Seed of the training.
    """

    def __init__(self, *, temperature: float = 0.1, shrinkage: float = 0.0, seed: int = 0) -> None:
        self.temperature, self.shrinkage, self._seed = temperature, shrinkage, seed

    def fit(self, past: Sequence[Mapping[str, float]], performance: Array) -> Self:
        """Train the networks.

        Args:
            past: Meta-features of the t past tasks, by name.
            performance: `t x m`, performance of m configurations; larger is better.
        """
        self._standardiser = Standardiser(past)
        table = torch.as_tensor(np.nan_to_num(self._standardiser.table), dtype=torch.float32)
        self._networks: list[nn.Module] = []
        if table.shape[1] and len(past) > 2:
            targets = torch.as_tensor(rank_correlations(performance), dtype=torch.float32)
            self._networks = [
                _train(table, targets, self._seed + number) for number in range(NETWORKS)
            ]
        self._table = table
        return self

    def weights(self, present: Mapping[str, float]) -> Array:
        """Return `t` weights that sum to 1; equal ones if there was nothing to learn from."""
        if not self._networks:
            return np.full(len(self._table), 1.0 / len(self._table))
        predicted = self._predict_correlations(present)
        return shrink(np.exp((predicted - predicted.max()) / self.temperature), self.shrinkage)

    def _predict_correlations(self, present: Mapping[str, float]) -> Array:
        """Rank correlations with the past tasks, `t`, in [-1, 1]."""
        own = torch.as_tensor(np.nan_to_num(self._standardiser(present)), dtype=torch.float32)
        with torch.no_grad():
            predicted = [
                network(self._table) @ network(own[None])[0] for network in self._networks
            ]
        return torch.stack(predicted).mean(dim=0).double().numpy()

    @property
    def importance(self) -> dict[str, float]:
        """Root mean squared derivative of the embedding by meta-feature, as shares."""
        if not self._networks:
            return {}
        change = np.zeros(self._table.shape[1])
        for network in self._networks:
            jacobian = torch.func.vmap(torch.func.jacrev(_unbatched(network)))(self._table)
            change += (jacobian.detach() ** 2).sum(dim=(0, 1)).double().numpy()
        shares = np.sqrt(change) / np.sqrt(change).sum()
        order = np.argsort(-shares, kind="stable")
        return {self._standardiser.names[index]: float(shares[index]) for index in order}


def rank_correlations(performance: Array) -> Array:
    """Return Spearman's correlations between the rows.

    Args:
        performance: `t x m`.

    Returns:
        `t x t`; 0 for a row whose entries are all equal.
    """
    ranks = rankdata(performance, axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(norms > 0, norms, 1.0)
    return unit @ unit.T


class _Embedding(nn.Module):
    """Maps meta-features (`batch_shape x f`) to unit vectors (`batch_shape x EMBEDDING`)."""

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
        # A constant component: without evidence, tasks are similar.
        with torch.no_grad():
            self.linear.bias[0] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.linear(x) + self.out(torch.tanh(self.hidden(x)))
        return nn.functional.normalize(embedded, dim=-1)


def _unbatched(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: network(x[None])[0]


def _train(table: Tensor, targets: Tensor, seed: int) -> nn.Module:
    """Fit an embedding to the rank correlations.

    Args:
        table: `t x f`, standardised meta-features.
        targets: `t x t`, rank correlations.
        seed: Seed of the initial weights and of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    network = _Embedding(table.shape[1], generator)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    pairs = 1.0 - torch.eye(len(table))
    for _ in range(STEPS):
        noisy = table + INPUT_NOISE * torch.randn(table.shape, generator=generator)
        kept = torch.rand(table.shape, generator=generator) >= INPUT_DROPOUT
        embedded = network(noisy * kept)
        loss = (pairs * (embedded @ embedded.T - targets) ** 2).sum() / pairs.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()
