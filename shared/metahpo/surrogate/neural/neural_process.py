"""A transformer neural process over tuning data.

It reads a study as a set of trials beside sets of past trials and predicts the present task's
scores anywhere in its space (Garnelo et al. 2018, "Conditional neural processes"; Nguyen and
Grover 2022, "Transformer neural processes"; Mueller et al. 2023, "PFNs4BO"; other tasks in the
context as in Wei et al. 2021, "Meta-learning hyperparameter performance prediction with neural
processes"). Three stages:

1. A configuration becomes a vector: each (hyperparameter, value) pair is embedded, the value's
   waves scaled and shifted by what the description says of the hyperparameter, and the sum over
   the hyperparameters goes through a network. The order of hyperparameters cannot matter, and
   their number is free.
2. A past task becomes a few tokens: learned latents attend to its trials (Jaegle et al. 2021,
   "Perceiver"). The present study is not needed for that, so that they are made once a study and
   the cost grows linearly with the number of past tasks.
   A token's place is the mean of the configurations that its latent looked at.
3. The context is the past tasks' tokens, a token for each trial, and one that tells how much
   there is of both. It attends to itself; queries attend to the context alone, so that
   predictions do not depend on what else is asked. Attention falls with the distance between
   places, as a kernel does: a network that is not trained yet is a kernel smoother, and what it
   has to learn is the rest. No position in a sequence is encoded anywhere: the order of trials
   and of past tasks cannot matter.

Notation (see also ``metahpo.tasks.space``): B batch of studies, t past tasks, m latents, w width,
n trials, d hyperparameters. All spaces are the present one: past tasks are aligned to it.
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

# Two views of a value (standardise.py), the score once more where it is small.
SCORE_FEATURES = 3


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network, and what it does not look at (ablations).

    Attributes:
        width: w, of all tokens.
        heads: Of attention; they divide the width.
        layers: Of the context's transformer.
        past_layers: Of the latents' cross-attention to a past task's trials.
        latents: m, tokens a past task.
        bars: Of the predictive distribution.
        past: Whether past tasks are read.
        descriptions: Whether hyperparameters' descriptions are read. The codes of their names
            are in any case, for nothing else tells two hyperparameters apart.
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
        known: ``B x t x d``, whether the past task has the hyperparameter; None for all.
        present: ``B x t x n``, False where a task has fewer trials; None for all.
        relevance: ``B x t``, logarithm of the prior weight times t, as meta-features or overlap
            give it; None or 0 where nothing is known.
    """

    trials: Trials
    known: Tensor | None = None
    present: Tensor | None = None
    relevance: Tensor | None = None


class Tokens(NamedTuple):
    """Tokens of a context, ``B x k x w``.

    Attributes:
        content: What they tell.
        places: Of which configurations, as vectors.
        placed: ``k``, False where a token is about none.
    """

    content: Tensor
    places: Tensor
    placed: Tensor


class Context(NamedTuple):
    """What queries attend to: keys and values of each layer, ``B x heads x tokens x ...``."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class NeuralProcess(nn.Module):
    """The whole network.

    Args:
        architecture: Its sizes.
        borders: ``bars - 1`` borders between the bars; evenly spaced if not given.
    """

    borders: Tensor
    tails: Tensor

    def __init__(
        self, architecture: Architecture = Architecture(), borders: Tensor | None = None
    ) -> None:
        super().__init__()
        # Of each space it was trained on, the hyperparameters' identities.
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
        """Predictions of scores, all in one go as in training.

        Args:
            description: Of the studies' spaces, ``B``.
            trials: The studies so far, ``B x n``, n at least 0.
            queries: ``B x q x d`` points.
            past: Their past tasks.

        Returns:
            ``B x q`` distributions.
        """
        spaces = self.configurations.spaces(description)
        tokens = None if past is None else self.encode_past(spaces, past)
        return self.predict(spaces, self.condition(spaces, trials, tokens), queries)

    def encode_past(self, spaces: Spaces, past: PastTrials) -> Tokens:
        """Each past task's tokens, which do not depend on the present trials.

        Args:
            spaces: From ``configurations.spaces``.
            past: t past tasks.

        Returns:
            t m tokens.
        """
        points = past.trials.points
        batch, tasks, count, _ = points.shape
        encoded = self.configurations(
            spaces,
            points.flatten(1, 2),
            None if past.known is None else past.known.repeat_interleave(count, 1),
        )
        encoded = encoded.view(batch * tasks, count, -1)
        rows = encoded + self._seen(past.trials.views.flatten(0, 1))
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
        """What queries attend to, given the trials.

        Args:
            spaces: From ``configurations.spaces``.
            trials: The studies so far, ``B x n``.
            past: From ``encode_past``; not looked at where the architecture says so.
        """
        past = past if self.architecture.past else None
        batch, count, _ = trials.points.shape
        encoded = self.configurations(spaces, trials.points)
        told = 0 if past is None else len(past.placed) // self.architecture.latents
        amounts = self.amounts(encoded.new_tensor([math.log1p(count), math.log1p(told)]))
        amounts = amounts.expand(batch, 1, -1)
        parts = [
            Tokens(amounts, torch.zeros_like(amounts), amounts.new_zeros(1, dtype=torch.bool)),
            Tokens(
                encoded + self._seen(trials.views) + self.kinds[1],
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
            # What the last layer would make of the context nobody attends to.
            if number < len(self.blocks):
                context = block(context, key, value, places=places)
        return Context(tuple(keys), tuple(values))

    def predict(self, spaces: Spaces, context: Context, queries: Tensor) -> BarDistribution:
        """Predictions of scores.

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
        # Masses, densities and their logarithms in full precision, whatever the network's is.
        logits = self.head(self.norm(tokens)).float()
        return BarDistribution(logits, self.borders, self.tails)

    def _seen(self, views: Tensor) -> Tensor:
        small = torch.tanh(views[..., :1])
        return self.views(torch.cat([views, small], -1).to(self.kinds.dtype))
