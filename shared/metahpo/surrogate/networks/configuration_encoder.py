"""Encoding of configurations as vectors, from the descriptions of their hyperparameters.

Each (hyperparameter, value) pair is embedded: features of the value are scaled and shifted by
functions of the hyperparameter's description. The sum over the hyperparameters goes through a
network. The result does not depend on the order of the hyperparameters, and any number of them is
accepted.

Notation: B studies, n configurations, d hyperparameters, w width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from metahpo.surrogate.networks.attention import two_layers
from metahpo.surrogate.networks.space_description import (
    CHOICE_SIGNS,
    FACTS,
    IDENTITY_SIGNS,
    Description,
)

# Size of the role embedding: the synonym table can grow to so many rows without retraining.
ROLES = 96
ROLE_WIDTH = 24
# Frequencies, in half-waves over the unit interval, of the sines and cosines of a position. Its
# other features are itself and its square, the code of a choice, and three flags.
HALF_WAVES = (1.0, 2.0, 4.0)
VALUE_FEATURES = 2 + 2 * len(HALF_WAVES) + CHOICE_SIGNS + 3


class Spaces(NamedTuple):
    """Modulation of values by the descriptions of B spaces: ``B x 1 x d x w`` each.

    Attributes:
        scale: Factor of a value's embedding.
        shift: Offset of a value's embedding.
        gate: Weight in the sum over hyperparameters; 0 for padding.
        description: The spaces.
    """

    scale: Tensor
    shift: Tensor
    gate: Tensor
    description: Description


class ConfigurationEncoder(nn.Module):
    """Encodes configurations, independently of the order and number of hyperparameters.

    Args:
        width: w.
        descriptions: Whether to use the facts and roles of hyperparameters.
    """

    half_waves: Tensor

    def __init__(self, width: int, descriptions: bool = True) -> None:
        super().__init__()
        self.reads_descriptions = descriptions
        self.roles = nn.Embedding(ROLES, ROLE_WIDTH)
        self.description = two_layers(FACTS + ROLE_WIDTH + IDENTITY_SIGNS, 2 * width, 3 * width)
        self.value = nn.Linear(VALUE_FEATURES, width, bias=False)
        self.pooled = nn.Linear(width, width)
        self.mixing = nn.ModuleList(two_layers(width, 2 * width, width) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        half_waves = math.pi * torch.tensor(HALF_WAVES, dtype=torch.float32)
        self.register_buffer("half_waves", half_waves, persistent=False)

    def spaces(self, description: Description) -> Spaces:
        """Compute the modulation by the descriptions, once per study."""
        roles = self.roles(description.roles.clamp_max(ROLES - 1))
        facts = description.facts
        if not self.reads_descriptions:
            roles, facts = torch.zeros_like(roles), torch.zeros_like(facts)
        inputs = torch.cat([facts, roles, description.identities], -1)
        scale, shift, gate = self.description(inputs).unsqueeze(-3).chunk(3, -1)
        present = description.present[..., None, :, None]
        count = present.sum(-2, keepdim=True).clamp_min(1)
        return Spaces(1.0 + scale, shift, gate * present / count.float().sqrt(), description)

    def forward(self, spaces: Spaces, points: Tensor, known: Tensor | None = None) -> Tensor:
        """Encode configurations.

        Args:
            spaces: From ``spaces``.
            points: ``B x n x d``, NaN where inactive.
            known: ``B x n x d``, False where the task does not have the hyperparameter, as opposed
                to an inactive one; None means that it has all.

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
        """Compute the features of values: ``B x n x d x VALUE_FEATURES``."""
        active = ~points.isnan()
        position = torch.where(active, points, 0.0).to(self.half_waves.dtype)
        choices = description.choices.unsqueeze(-2)
        numerical = (active & (choices == 0)).unsqueeze(-1)
        phases = position.unsqueeze(-1) * self.half_waves
        centred = 2.0 * position.unsqueeze(-1) - 1.0
        waves = torch.cat([centred, centred.square(), phases.sin(), phases.cos()], -1)
        missing = torch.zeros_like(active) if known is None else ~known & ~active
        flags = torch.stack([active, ~active & ~missing, missing], -1)
        codes = self._codes(description, position, active)
        return torch.cat([waves * numerical, codes, flags.to(waves.dtype)], -1)

    @staticmethod
    def _codes(description: Description, position: Tensor, active: Tensor) -> Tensor:
        """Look up the codes of choices: ``B x n x d x CHOICE_SIGNS``, 0 for numerical values."""
        batch, count, d = position.shape
        choices = description.choices.unsqueeze(-2)
        most = description.choice_codes.shape[-2]
        chosen = (position * choices).floor().clamp_min(0.0).long()
        chosen = torch.minimum(chosen, (choices - 1).clamp_min(0))
        # Row of (batch, hyperparameter, choice) in the flattened codes.
        first = torch.arange(batch * d, device=chosen.device).view(batch, 1, d) * most
        rows = description.choice_codes.reshape(-1, CHOICE_SIGNS)
        codes = rows.index_select(0, (first + chosen).flatten())
        codes = codes.view(batch, count, d, CHOICE_SIGNS).to(position.dtype)
        return codes * (active & (choices > 0)).unsqueeze(-1)
