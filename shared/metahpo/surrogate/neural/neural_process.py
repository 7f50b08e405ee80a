"""A transformer neural process over tuning data.

Its input is a study, as a set of trials, and sets of trials of past tasks; it predicts the present
task's scores anywhere in its space (Garnelo et al. 2018, "Conditional neural processes"; Nguyen
and Grover 2022, "Transformer neural processes"; Mueller et al. 2023, "PFNs4BO"; other tasks in the
context as in Wei et al. 2021, "Meta-learning hyperparameter performance prediction with neural
processes"). Three stages:

1. Configurations are encoded as vectors (``networks/configuration_encoder.py``), independently of
   the order and number of hyperparameters.
2. A past task is encoded as a few tokens: learned latents attend to its trials (Jaegle et al.
   2021, "Perceiver"). This does not depend on the present trials, so it is done once per study,
   and the cost is linear in the number of past tasks. The place of a token is the mean of the
   configurations that its latent attended to.
3. The context consists of the past tasks' tokens, one token for each trial, and one token with the
   numbers of both. The context attends to itself; queries attend to the context only, so that
   predictions do not depend on other queries. Attention decays with the distance between places,
   as a kernel does: the untrained network is a kernel smoother. There are no positional encodings,
   so the order of trials and past tasks does not matter.

Notation (see also ``metahpo.tasks.space``): B batch of studies, t past tasks, m latents, w width,
n trials, q queries, d hyperparameters. All spaces are the present one: past tasks are aligned to
it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metahpo.surrogate.networks.attention import Block, blocks_of, two_layers
from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.surrogate.networks.configuration_encoder import ConfigurationEncoder, Spaces
from metahpo.surrogate.networks.space_description import Description

# Two views of a value (standardise.py), and the squashed score, which resolves small ones.
SCORE_FEATURES = 3


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network, and inputs that it may ignore (ablations).

    Attributes:
        width: w, of all tokens.
        heads: Heads of the attention; must divide the width.
        layers: Layers of the context's transformer.
        past_layers: Layers of the latents' cross-attention to a past task's trials.
        latents: m, tokens per past task.
        bars: Bars of the predictive distribution.
        past: Whether to use past tasks.
        descriptions: Whether to use the descriptions of hyperparameters. The codes of their names
            are always used, since nothing else distinguishes two hyperparameters.
    """

    width: int = 96
    heads: int = 4
    layers: int = 4
    past_layers: int = 2
    latents: int = 4
    bars: int = 96
    past: bool = True
    descriptions: bool = True


class Trials(NamedTuple):
    """Sets of trials, n in each.

    Attributes:
        points: ``... x n x d``, NaN where a hyperparameter is inactive.
        views: ``... x n x 2``, from ``standardise.two_views``.
    """

    points: Tensor
    views: Tensor


class PastTrials(NamedTuple):
    """The trials of t past tasks for each study of the batch.

    Attributes:
        trials: ``B x t x n``.
        known: ``B x t x d``, whether the past task has the hyperparameter; None means all True.
        present: ``B x t x n``, False for padding; None means all True.
        relevance: ``B x t``, logarithm of t times the prior weight from meta-features or overlap;
            0, or None for all, if it is unknown.
    """

    trials: Trials
    known: Tensor | None = None
    present: Tensor | None = None
    relevance: Tensor | None = None


class Tokens(NamedTuple):
    """Tokens of a context, ``B x k x w``.

    Attributes:
        content: The tokens.
        places: The encoded configurations that the tokens are about.
        placed: ``k``, False for tokens that are not about any configuration.
    """

    content: Tensor
    places: Tensor
    placed: Tensor


class Context(NamedTuple):
    """Keys and values of each layer that queries attend to, ``B x heads x tokens x ...``."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class NeuralProcess(nn.Module):
    """The network.

    Args:
        architecture: Its sizes.
        borders: ``bars - 1`` borders between the bars; evenly spaced by default.

    Attributes:
        learners: For each search space that the network was trained on, the identities of its
            hyperparameters.
    """

    borders: Tensor
    tails: Tensor

    def __init__(
        self, architecture: Architecture = Architecture(), borders: Tensor | None = None
    ) -> None:
        super().__init__()
        self.learners: frozenset[frozenset[str]] = frozenset()
        self.architecture = architecture
        width, heads = architecture.width, architecture.heads
        self.configurations = ConfigurationEncoder(width, architecture.descriptions)
        self.views = two_layers(SCORE_FEATURES, width, width)
        self.amounts = nn.Linear(2, width)
        self.kinds = nn.Parameter(0.02 * torch.randn(3, width))
        self.latents = nn.Parameter(torch.randn(architecture.latents, width))
        self.relevance = nn.Linear(1, width)
        self.past = nn.ModuleList(Block(width, heads) for _ in range(architecture.past_layers))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(architecture.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, architecture.bars)
        if borders is None:
            borders = torch.linspace(-5.0, 5.0, architecture.bars - 1)
        self.register_buffer("borders", borders.float())
        self.register_buffer("tails", torch.ones(2))

    def forward(
        self,
        description: Description,
        trials: Trials,
        queries: Tensor,
        past: PastTrials | None = None,
    ) -> BarDistribution:
        """Predict scores in one pass, as in training.

        Args:
            description: The studies' spaces, ``B``.
            trials: The observed trials, ``B x n``; n may be 0.
            queries: ``B x q x d`` points.
            past: Past tasks; None for none.

        Returns:
            ``B x q`` distributions.
        """
        spaces = self.configurations.spaces(description)
        tokens = None if past is None else self.encode_past(spaces, past)
        return self.predict(spaces, self.condition(spaces, trials, tokens), queries)

    def encode_past(self, spaces: Spaces, past: PastTrials) -> Tokens:
        """Encode past tasks, independently of the present trials.

        Args:
            spaces: From ``configurations.spaces``.
            past: t past tasks.

        Returns:
            ``t * m`` tokens.
        """
        points = past.trials.points
        batch, tasks, count, _ = points.shape
        encoded = self.configurations(
            spaces,
            points.flatten(1, 2),
            None if past.known is None else past.known.repeat_interleave(count, 1),
        )
        encoded = encoded.view(batch * tasks, count, -1)
        rows = encoded + self._embedded_values(past.trials.views.flatten(0, 1))
        mask = None
        if past.present is not None:
            mask = past.present.view(batch * tasks, 1, 1, count)
        tokens = self.latents.expand(batch * tasks, -1, -1)
        if past.relevance is not None:
            tokens = tokens + self.relevance(past.relevance.reshape(-1, 1, 1).float())
        *first, last = blocks_of(self.past)
        for block in first:
            tokens = block(tokens, *block.keys_and_values(rows), mask)
        key, value = last.keys_and_values(rows)
        places = last.weights(tokens, key, mask) @ encoded
        tokens = last(tokens, key, value, mask)
        flat = (batch, tasks * self.architecture.latents, -1)
        placed = torch.ones(flat[1], dtype=torch.bool, device=tokens.device)
        return Tokens((tokens + self.kinds[0]).view(flat), places.view(flat), placed)

    def condition(self, spaces: Spaces, trials: Trials, past: Tokens | None = None) -> Context:
        """Compute the context that queries attend to.

        Args:
            spaces: From ``configurations.spaces``.
            trials: The observed trials, ``B x n``.
            past: From ``encode_past``; ignored if the architecture does not use past tasks.
        """
        past = past if self.architecture.past else None
        batch, count, _ = trials.points.shape
        encoded = self.configurations(spaces, trials.points)
        tasks = 0 if past is None else len(past.placed) // self.architecture.latents
        amounts = self.amounts(encoded.new_tensor([math.log1p(count), math.log1p(tasks)]))
        amounts = amounts.expand(batch, 1, -1)
        parts = [
            Tokens(amounts, torch.zeros_like(amounts), amounts.new_zeros(1, dtype=torch.bool)),
            Tokens(
                encoded + self._embedded_values(trials.views) + self.kinds[1],
                encoded,
                amounts.new_ones(count, dtype=torch.bool),
            ),
        ]
        if past is not None:
            parts.append(past)
        context = torch.cat([part.content for part in parts], 1)
        places = torch.cat([part.places for part in parts], 1)
        placed = torch.cat([part.placed for part in parts])
        keys, values = [], []
        for number, block in enumerate(blocks_of(self.blocks), 1):
            key, value = block.keys_and_values(context, places, placed)
            keys.append(key)
            values.append(value)
            # Nothing attends to the output of the last layer.
            if number < len(self.blocks):
                context = block(context, key, value, places=places)
        return Context(tuple(keys), tuple(values))

    def predict(self, spaces: Spaces, context: Context, queries: Tensor) -> BarDistribution:
        """Predict scores.

        Args:
            spaces: From ``configurations.spaces``.
            context: From ``condition``.
            queries: ``B x q x d`` points.

        Returns:
            ``B x q`` distributions.
        """
        places = self.configurations(spaces, queries)
        tokens = places + self.kinds[2]
        blocks = blocks_of(self.blocks)
        for block, key, value in zip(blocks, context.keys, context.values, strict=True):
            tokens = block(tokens, key, value, places=places)
        # Masses and densities need full precision, even if the network runs in bfloat16.
        logits = self.head(self.norm(tokens)).float()
        return BarDistribution(logits, self.borders, self.tails)

    def _embedded_values(self, views: Tensor) -> Tensor:
        small = torch.tanh(views[..., :1])
        return self.views(torch.cat([views, small], -1).to(self.kinds.dtype))
