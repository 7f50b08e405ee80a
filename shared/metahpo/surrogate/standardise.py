"""Values of present and past tasks as a neural surrogate sees them, for whole batches at once.

Two views of each value: its score (the warp of ``scores.py`` with the knee one unit below the
centre: linear above, logarithmic below, so that one diverged training flattens nothing) and its
rank among the task's own values, as a quantile of the normal distribution (Salinas et al. 2020),
which does not care about units at all.

The unit of a study cannot be read off a few trials alone: it is drawn towards the past
tasks' usual one, geometrically, with the weight of ``PRIOR_TRIALS`` trials.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from metahpo.surrogate.scores import Warp, compressed, have_units, own_units

KNEE = 1.0
PRIOR_TRIALS = 2.0
# Past tasks measured in another unit altogether move the present one by so much at most.
LARGEST_PULL = math.log(20.0)
# Scores that networks are shown end here.
LARGEST_SCORE = 8.0


class Scale(NamedTuple):
    """Values to scores: centre and unit of each task, ``batch_shape``, float64."""

    centre: Tensor
    unit: Tensor

    def scores(self, values: Tensor) -> Tensor:
        """Scores of ``batch_shape x n`` values, float32."""
        z = (values - self.centre.unsqueeze(-1)) / self.unit.unsqueeze(-1)
        return compressed(z, KNEE).float()

    @property
    def warp(self) -> Warp:
        """Of one task, without batch dimension."""
        return Warp(float(self.centre), float(self.unit), KNEE)


def own_scale(values: Tensor) -> Scale:
    """The scale of tasks by their own values alone.

    Args:
        values: ``batch_shape x n``, n at least 1; NaN where a task has fewer.
    """
    return Scale(*own_units(values))


def study_scale(values: Tensor, past_unit: Tensor | None = None) -> Scale:
    """Centre and unit of studies by their trials, and by the past's unit where these are few.

    Args:
        values: ``batch_shape x n``, n at least 0, finite.
        past_unit: ``batch_shape``, the past tasks' usual unit; None without a past.

    Returns:
        The trials' median and a unit. A study of fewer than two trials says nothing about its
        unit: it is the past's, or 1. One of none has its centre at 0.
    """
    n = values.shape[-1]
    shape = values.shape[:-1]
    if past_unit is None or n < 2:
        fallback = torch.ones(shape, dtype=torch.float64, device=values.device)
        unit = fallback if past_unit is None else past_unit.double().expand(shape)
        if n == 0:
            return Scale(torch.zeros_like(unit), unit)
        own = own_scale(values)
        return Scale(own.centre, own.unit if n > 1 else unit)
    own = own_scale(values)
    pull = (past_unit.double().log() - own.unit.log()).clamp(-LARGEST_PULL, LARGEST_PULL)
    share = PRIOR_TRIALS / (PRIOR_TRIALS + n - 1)
    unit = torch.where(have_units(values), own.unit * (share * pull).exp(), past_unit.double())
    return Scale(own.centre, unit)


def rank_scores(values: Tensor) -> Tensor:
    """Normal quantiles of the ranks of ``batch_shape x n`` values, ties at their middle.

    NaN stays NaN and takes no rank.
    """
    known = ~values.isnan()
    count = known.sum(-1, keepdim=True).clamp_min(1)
    smaller = (values.unsqueeze(-2) < values.unsqueeze(-1)).sum(-1)
    equal = (values.unsqueeze(-2) == values.unsqueeze(-1)).sum(-1)
    # Whole numbers: their quotient would have the default dtype of the process.
    ranks = torch.special.ndtri((smaller.float() + 0.5 * equal.float()) / count.float())
    return torch.where(known, ranks, torch.nan)


def two_views(values: Tensor, scale: Scale) -> Tensor:
    """``batch_shape x n x 2``: scores, bounded, and rank scores; 0 where a value is NaN."""
    scores = scale.scores(values).clamp(-LARGEST_SCORE, LARGEST_SCORE)
    return torch.stack([scores, rank_scores(values)], -1).nan_to_num(0.0)
