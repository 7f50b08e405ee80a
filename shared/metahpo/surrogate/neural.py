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

Notation (see also ``metahpo.space``): B batch of studies, t past tasks, m latents, w width,
n trials, d hyperparameters. All spaces are the present one: past tasks are aligned to it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from metahpo.surrogate.bars import BarDistribution
from metahpo.surrogate.description import (
    CHOICE_SIGNS,
    FACTS,
    IDENTITY_SIGNS,
    Description,
)

# Lines that the synonym table can grow to without new weights.
ROLES = 96
ROLE_WIDTH = 24
# Waves of a position: itself, its square, and sines and cosines of so many half-waves.
HALF_WAVES = (1.0, 2.0, 4.0)
# Dimensions of a place for each head, and the heads' first lengthscales, in inverse.
PLACE_WIDTH = 6
SHARPNESS = (1.5, 6.0)
VALUE_FEATURES = 2 + 2 * len(HALF_WAVES) + CHOICE_SIGNS + 3
# Two views of a value (standardise.py), the score once more where it is small.
SCORE_FEATURES = 3


class WeightsError(ValueError):
    """A file is no weights of this model; the message says what to do."""


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network.

    Attributes:
        width: w, of all tokens.
        heads: Of attention; they divide the width.
        layers: Of the context's transformer.
        past_layers: Of the latents' cross-attention to a past task's trials.
        latents: m, tokens a past task.
        bars: Of the predictive distribution.
    """

    width: int = 96
    heads: int = 4
    layers: int = 4
    past_layers: int = 2
    latents: int = 4
    bars: int = 96


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
        self.architecture = architecture
        width, heads = architecture.width, architecture.heads
        self.configurations = ConfigurationEncoder(width)
        self.views = _mlp(SCORE_FEATURES, width, width)
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
        *first, last = _blocks(self.past)
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
            past: From ``encode_past``.
        """
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
        for number, block in enumerate(_blocks(self.blocks), 1):
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
        blocks = _blocks(self.blocks)
        for block, key, value in zip(blocks, context.keys, context.values, strict=True):
            tokens = block(tokens, key, value, places=places)
        # Masses, densities and their logarithms in full precision, whatever the network's is.
        logits = self.head(self.norm(tokens)).float()
        return BarDistribution(logits, self.borders, self.tails)

    def _seen(self, views: Tensor) -> Tensor:
        small = torch.tanh(views[..., :1])
        return self.views(torch.cat([views, small], -1).to(self.kinds.dtype))


class Spaces(NamedTuple):
    """What the descriptions of B spaces do to values: ``B x 1 x d x w`` each.

    Attributes:
        scale: Of a value's waves.
        shift: Of a value's waves.
        gate: Of what becomes of them; 0 for a hyperparameter that is not there.
        description: Where they come from.
    """

    scale: Tensor
    shift: Tensor
    gate: Tensor
    description: Description


class ConfigurationEncoder(nn.Module):
    """Configurations as vectors, whatever the order and number of hyperparameters.

    Args:
        width: w.
    """

    half_waves: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.roles = nn.Embedding(ROLES, ROLE_WIDTH)
        self.description = _mlp(FACTS + ROLE_WIDTH + IDENTITY_SIGNS, 2 * width, 3 * width)
        self.value = nn.Linear(VALUE_FEATURES, width, bias=False)
        self.pooled = nn.Linear(width, width)
        self.mixing = nn.ModuleList(_mlp(width, 2 * width, width) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        half_waves = math.pi * torch.tensor(HALF_WAVES)
        self.register_buffer("half_waves", half_waves, persistent=False)

    def spaces(self, description: Description) -> Spaces:
        """What the descriptions do to values; once a study."""
        roles = self.roles(description.roles.clamp_max(ROLES - 1))
        told = torch.cat([description.facts, roles, description.identities], -1)
        scale, shift, gate = self.description(told).unsqueeze(-3).chunk(3, -1)
        present = description.present[..., None, :, None]
        count = present.sum(-2, keepdim=True).clamp_min(1)
        return Spaces(1.0 + scale, shift, gate * present / count.sqrt(), description)

    def forward(self, spaces: Spaces, points: Tensor, known: Tensor | None = None) -> Tensor:
        """Configurations as vectors.

        Args:
            spaces: B spaces.
            points: ``B x n x d``, NaN where inactive.
            known: ``B x n x d``, False where the hyperparameter is not known at all, which is
                another thing than being inactive; None for all known.

        Returns:
            ``B x n x w``.
        """
        embedded = self.value(self._features(spaces.description, points, known))
        hidden = gelu(spaces.scale * embedded + spaces.shift, approximate="tanh") * spaces.gate
        vectors = self.pooled(hidden.sum(-2))
        for norm, mixing in zip(self.norms, self.mixing, strict=True):
            vectors = vectors + mixing(norm(vectors))
        return vectors

    def _features(self, description: Description, points: Tensor, known: Tensor | None) -> Tensor:
        """``B x n x d x VALUE_FEATURES``."""
        active = ~points.isnan()
        position = torch.where(active, points, 0.0).to(self.half_waves.dtype)
        choices = description.choices.unsqueeze(-2)
        number = (active & (choices == 0)).unsqueeze(-1)
        phases = position.unsqueeze(-1) * self.half_waves
        centred = 2.0 * position.unsqueeze(-1) - 1.0
        waves = torch.cat([centred, centred.square(), phases.sin(), phases.cos()], -1)
        missing = torch.zeros_like(active) if known is None else ~known & ~active
        flags = torch.stack([active, ~active & ~missing, missing], -1)
        codes = self._codes(description, position, active)
        return torch.cat([waves * number, codes, flags.to(waves.dtype)], -1)

    @staticmethod
    def _codes(description: Description, position: Tensor, active: Tensor) -> Tensor:
        """``B x n x d x CHOICE_SIGNS``: the chosen choice's code, 0 where there is none."""
        batch, count, d = position.shape
        choices = description.choices.unsqueeze(-2)
        most = description.choice_codes.shape[-2]
        chosen = (position * choices).floor().clamp_min(0.0).long()
        chosen = torch.minimum(chosen, (choices - 1).clamp_min(0))
        # Row (batch, hyperparameter, choice) of the flattened codes.
        first = torch.arange(batch * d, device=chosen.device).view(batch, 1, d) * most
        rows = description.choice_codes.reshape(-1, CHOICE_SIGNS)
        codes = rows.index_select(0, (first + chosen).flatten())
        codes = codes.view(batch, count, d, CHOICE_SIGNS).to(position.dtype)
        return codes * (active & (choices > 0)).unsqueeze(-1)


class Block(nn.Module):
    """Attention and a small network, norms before both, each added to the tokens.

    Between tokens that have places, logits are those of dot products less half the squared
    distance of the places, ``|p - p'|^2 / 2``, each head with projections and a lengthscale of
    its own: a Gaussian kernel times learned attention. The distance is written as one more dot
    product, so that fused attention serves.

    Args:
        width: w.
        heads: They divide it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.of_tokens = nn.LayerNorm(width)
        self.of_context = nn.LayerNorm(width)
        self.of_places = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.place = nn.Linear(width, heads * PLACE_WIDTH, bias=False)
        nn.init.normal_(self.place.weight, std=width**-0.5)
        self.log_sharpness = nn.Parameter(torch.linspace(*SHARPNESS, heads).log())
        self.out = nn.Linear(width, width)
        self.of_hidden = nn.LayerNorm(width)
        self.hidden = _mlp(width, 3 * width, width)

    def keys_and_values(
        self, context: Tensor, places: Tensor | None = None, placed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``B x heads x k x ...`` each, of ``B x k x w`` tokens and their places."""
        key, value = self.key_value(self.of_context(context)).chunk(2, -1)
        key, value = self._split(key), self._split(value)
        if places is None or placed is None:
            return key, value
        place, half_square = self._placed(places)
        located = torch.cat([place, torch.ones_like(half_square), -half_square], -1)
        key = torch.cat([key, located * placed[:, None]], -1)
        # Fused attention wants values as wide as keys.
        return key, nn.functional.pad(value, (0, PLACE_WIDTH + 2))

    def forward(
        self,
        tokens: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """``B x q x w`` tokens after attending to the context."""
        query = self._query(tokens)
        if places is not None:
            place, half_square = self._placed(places)
            query = torch.cat([query, place, -half_square, torch.ones_like(half_square)], -1)
        seen = scaled_dot_product_attention(query, key, value, mask, scale=1.0)
        seen = seen[..., : tokens.shape[-1] // self.heads]
        tokens = tokens + self.out(seen.transpose(1, 2).flatten(-2))
        return tokens + self.hidden(self.of_hidden(tokens))

    def weights(self, tokens: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
        """``B x q x k``: what attention without places looks at, the mean over the heads."""
        logits = self._query(tokens) @ key.mT
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf)
        return logits.softmax(-1).mean(1)

    def _query(self, tokens: Tensor) -> Tensor:
        query = self._split(self.query(self.of_tokens(tokens)))
        return query / math.sqrt(query.shape[-1])

    def _placed(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Places in units of the lengthscales, and half their squares."""
        place = self._split(self.place(self.of_places(places)))
        place = place * self.log_sharpness.exp()[:, None, None]
        return place, 0.5 * place.square().sum(-1, keepdim=True)

    def _split(self, tokens: Tensor) -> Tensor:
        batch, count, _ = tokens.shape
        return tokens.view(batch, count, self.heads, -1).transpose(1, 2)


def _blocks(modules: nn.ModuleList) -> Iterable[Block]:
    return cast(Iterable[Block], modules)


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, outputs)
    )


# ---- weights -------------------------------------------------------------------------------


def save_weights(network: NeuralProcess, path: Path, **metadata: str) -> None:
    """Writes weights, sizes and what else is to be known of them as a safetensors file."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    sizes = json.dumps(asdict(network.architecture))
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, {**metadata, "architecture": sizes})
    temporary.replace(path)


def load_weights(path: str | Path) -> NeuralProcess:
    """The network that ``save_weights`` wrote, ready to predict.

    Raises:
        WeightsError: The file is none of ours.
        OSError: It cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: make some with `metahpo train surrogate`")
    try:
        with safe_open(path, "pt") as file:
            sizes = Architecture(**json.loads((file.metadata() or {})["architecture"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = NeuralProcess(sizes)
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path} does not fit this version: make new weights with `metahpo train surrogate` "
            f"({str(error).splitlines()[0]})"
        ) from None
    return network.eval().requires_grad_(False)
