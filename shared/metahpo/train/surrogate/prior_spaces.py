"""Synthetic search spaces of the prior: mixed types, some of them conditional.

Notation: see ``episodes.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metahpo.surrogate.networks.space_description import (
    CHOICE_SIGNS,
    FACTS,
    IDENTITY_SIGNS,
    Description,
)
from metahpo.train.draw import Draw
from metahpo.train.surrogate.episodes import Shape

# Largest number of choices of a categorical hyperparameter.
CHOICES = 6


@dataclass(frozen=True, eq=False)
class RandomSpaces:
    """B search spaces.

    Attributes:
        description: The spaces as the network receives them.
        levels: ``B x d``, number of levels; 0 for continuous hyperparameters.
        parent: ``B``, the hyperparameter on which conditional ones depend.
        admitted: ``B x d x CHOICES``, the parent's choices for which each is active.
    """

    description: Description
    levels: Tensor
    parent: Tensor
    admitted: Tensor

    def configurations(self, count: int, tasks: int, draw: Draw) -> Tensor:
        """Draw ``B x tasks x count x d`` points, NaN where inactive.

        Half of them are uniform, half lie near others.
        """
        batch, d = self.levels.shape
        half = (count + 1) // 2
        points = draw.uniform(0, 1, batch, tasks, half, d)
        width = 10 ** draw.uniform(-2, -0.5, batch, tasks, half, 1)
        moved = points + width * draw.normal(batch, tasks, half, d)
        near = torch.where(draw.bernoulli(0.4, batch, tasks, half, d), moved.clamp(0, 1), points)
        # Neighbours concentrate on some of the points, as those of an optimiser do.
        centre = (draw.uniform(0, 1, batch, tasks, half, 1).square() * half).long()
        near = near.gather(2, centre.expand(-1, -1, -1, d))
        return self._valid(torch.cat([points, near], 2)[:, :, :count])

    def _valid(self, points: Tensor) -> Tensor:
        """Snap discrete hyperparameters to their levels and deactivate conditional ones."""
        levels = self.levels[:, None, None]
        snapped = ((points * levels).floor().clamp_max(levels - 1) + 0.5) / levels.clamp_min(1)
        points = torch.where(levels > 0, snapped, points)
        batch, tasks, count, _ = points.shape
        parent = self.parent.view(batch, 1, 1, 1).expand(-1, tasks, count, 1)
        parent_levels = self.levels.gather(1, self.parent[:, None]).view(batch, 1, 1)
        choice = (points.gather(-1, parent).squeeze(-1) * parent_levels).long()
        choice = choice.clamp(0, CHOICES - 1)
        rows = torch.arange(batch).view(batch, 1, 1).expand_as(choice)
        active = self.admitted.transpose(1, 2)[rows, choice]
        return points.masked_fill(~active, torch.nan)


def draw_spaces(shape: Shape, draw: Draw) -> RandomSpaces:
    """Draw search spaces with up to ``shape.hyperparameters`` hyperparameters of all types."""
    batch, d = shape.episodes, shape.hyperparameters
    count = draw.integers((d + 1) // 2, d + 1, batch)
    present = torch.arange(d) < count[:, None]
    kind = draw.uniform(0, 1, batch, d)
    categorical, integer = kind < 0.22, (kind >= 0.22) & (kind < 0.45)
    choices = torch.where(categorical, draw.integers(2, CHOICES + 1, batch, d), 0)
    steps = torch.where(integer, (10 ** draw.uniform(0.3, 3, batch, d)).long(), 0)
    levels = torch.where(categorical, choices, steps)
    log = ~categorical & draw.bernoulli(0.4, batch, d)
    parent, admitted = _conditions(categorical, choices, present, draw)
    conditional = ~admitted.all(-1)
    codes = draw.signs(batch, d, CHOICES, CHOICE_SIGNS)
    codes = codes * (torch.arange(CHOICES) < choices[..., None])[..., None]
    return RandomSpaces(
        description=Description(
            facts=_facts(categorical, integer, log, levels, conditional, draw),
            # A few have the role of a real hyperparameter, most have none.
            roles=torch.where(draw.bernoulli(0.15, batch, d), draw.integers(1, 46, batch, d), 0),
            identities=draw.signs(batch, d, IDENTITY_SIGNS),
            choices=choices,
            choice_codes=codes,
            present=present,
        ),
        levels=levels,
        parent=parent,
        admitted=admitted,
    )


def _conditions(
    categorical: Tensor, choices: Tensor, present: Tensor, draw: Draw
) -> tuple[Tensor, Tensor]:
    """Draw at most one parent for each space, and which hyperparameters depend on it."""
    batch, d = categorical.shape
    candidates = categorical & present
    parent = (candidates + draw.uniform(0, 0.5, batch, d)).argmax(-1)
    has_parent = candidates.gather(1, parent[:, None]).squeeze(1) & draw.bernoulli(0.5, batch)
    child = draw.bernoulli(0.35, batch, d) & has_parent[:, None]
    child.scatter_(1, parent[:, None], False)
    admitted = draw.bernoulli(0.5, batch, d, CHOICES)
    # At least one choice, so that every hyperparameter is active somewhere.
    parent_choices = choices.gather(1, parent[:, None]).clamp_min(1)
    certain = (draw.uniform(0, 1, batch, d) * parent_choices).long()
    admitted.scatter_(2, certain[..., None], True)
    return parent, admitted | ~child[..., None]


def _facts(
    categorical: Tensor,
    integer: Tensor,
    log: Tensor,
    levels: Tensor,
    conditional: Tensor,
    draw: Draw,
) -> Tensor:
    """``B x d x FACTS`` in the order of ``space_description.FACTS``."""
    batch, d = categorical.shape
    low = draw.uniform(0, 1, batch, d)
    high = low + draw.uniform(0.1, 0.8, batch, d)
    numerical = (~categorical).float()
    facts = torch.stack(
        [
            (~categorical & ~integer).float(),
            integer.float(),
            categorical.float(),
            log.float(),
            low * numerical,
            high * numerical,
            torch.log1p(levels.float()) / 5.0,
            conditional.float(),
        ],
        -1,
    )
    assert facts.shape[-1] == FACTS
    return facts
