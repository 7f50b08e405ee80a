"""Attention that decays with the distance between configurations, and small networks.

Notation: B batch, q queries, k context tokens, w width of a token. The place of a token is the
vector of the configuration it is about.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

# Dimensions of a projected place per head, and the range of initial inverse lengthscales.
PLACE_WIDTH = 6
SHARPNESS = (1.5, 6.0)


class Block(nn.Module):
    """A pre-norm transformer block: cross-attention and a small network, both residual.

    Between tokens with places, the attention logits are dot products minus half the squared
    distance of the projected places, ``|p - p'|^2 / 2``; each head has its own projection and
    lengthscale. The result is a Gaussian kernel times learned attention. The distance is expressed
    as additional dimensions of the dot product, so that fused attention can be used.

    Args:
        width: w.
        heads: Number of heads; must divide w.
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
        self.hidden = two_layers(width, 3 * width, width)

    def keys_and_values(
        self, context: Tensor, places: Tensor | None = None, placed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute what queries attend to.

        Args:
            context: ``B x k x w`` tokens.
            places: ``B x k x w``; None for attention without distances.
            placed: ``k``, False for tokens without a place.

        Returns:
            Keys and values, ``B x heads x k x ...`` each.
        """
        key, value = self.key_value(self.of_context(context)).chunk(2, -1)
        key, value = self._split(key), self._split(value)
        if places is None or placed is None:
            return key, value
        place, half_square = self._placed(places)
        located = torch.cat([place, torch.ones_like(half_square), -half_square], -1)
        key = torch.cat([key, located * placed[:, None]], -1)
        # Fused attention requires values as wide as keys.
        return key, nn.functional.pad(value, (0, PLACE_WIDTH + 2))

    def forward(
        self,
        tokens: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Update the tokens by attending to the context.

        Args:
            tokens: ``B x q x w``.
            key: From ``keys_and_values``.
            value: From ``keys_and_values``.
            mask: Broadcasts with ``B x heads x q x k``; False where attention is not allowed.
            places: ``B x q x w``; None for attention without distances.

        Returns:
            ``B x q x w``.
        """
        query = self._query(tokens)
        if places is not None:
            place, half_square = self._placed(places)
            query = torch.cat([query, place, -half_square, torch.ones_like(half_square)], -1)
        attended = scaled_dot_product_attention(query, key, value, mask, scale=1.0)
        attended = attended[..., : tokens.shape[-1] // self.heads]
        tokens = tokens + self.out(attended.transpose(1, 2).flatten(-2))
        return tokens + self.hidden(self.of_hidden(tokens))

    def weights(self, tokens: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the weights of attention without places, ``B x q x k``, mean over the heads."""
        logits = self._query(tokens) @ key.mT
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf)
        return logits.softmax(-1).mean(1)

    def _query(self, tokens: Tensor) -> Tensor:
        query = self._split(self.query(self.of_tokens(tokens)))
        return query / math.sqrt(query.shape[-1])

    def _placed(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return places projected to units of the lengthscales, and half their squared norms."""
        place = self._split(self.place(self.of_places(places)))
        place = place * self.log_sharpness.exp()[:, None, None]
        return place, 0.5 * place.square().sum(-1, keepdim=True)

    def _split(self, tokens: Tensor) -> Tensor:
        batch, count, _ = tokens.shape
        return tokens.view(batch, count, self.heads, -1).transpose(1, 2)


def blocks_of(modules: nn.ModuleList) -> Iterable[Block]:
    """Return the same modules, typed as blocks."""
    return cast(Iterable[Block], modules)


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Build a network of two linear layers with a GELU between them."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, outputs)
    )
