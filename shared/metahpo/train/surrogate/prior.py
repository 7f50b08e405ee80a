"""A prior over families of tuning problems: synthetic episodes.

A family is a search space (``prior_spaces.py``) and a few random functions on it
(``prior_functions.py``). Its tasks are mixtures of these functions, with similar weights for
related tasks, each with its own shift, unit and noise. Some past tasks are unrelated to the
present one, and some are its negative.

All episodes of a batch are drawn at once. Notation: see ``episodes.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metahpo.surrogate.standardise import Scale, own_scale
from metahpo.train.draw import Draw
from metahpo.train.surrogate.episodes import Episodes, Shape, biased_choice
from metahpo.train.surrogate.prior_functions import FunctionFamily, standard
from metahpo.train.surrogate.prior_spaces import RandomSpaces, draw_spaces

# Candidates drawn for each trial or query, from which it is chosen.
POOL = 2


def synthetic_episodes(shape: Shape, generator: torch.Generator) -> Episodes:
    """Draw a batch of synthetic episodes.

    Args:
        shape: Its sizes.
        generator: Source of randomness.
    """
    draw = Draw(generator)
    spaces = draw_spaces(shape, draw)
    tasks = 1 + shape.past_tasks
    family = FunctionFamily.random(shape.episodes, tasks, spaces, draw)
    points, values, population = _present_task(spaces, family, shape, draw)
    past_points, past_values = _past_tasks(spaces, family, shape, draw)
    unknown = draw.bernoulli(0.05, shape.episodes, shape.past_tasks, shape.hyperparameters)
    known = ~(unknown & draw.bernoulli(0.3, shape.episodes, 1, 1))
    return Episodes(
        description=spaces.description,
        points=points,
        values=values,
        trials=shape.trials,
        population=population,
        past_points=past_points.masked_fill(~known.unsqueeze(2), torch.nan),
        past_values=past_values,
        known=known,
        relevance=family.relevance(draw),
    )


def _present_task(
    spaces: RandomSpaces, family: FunctionFamily, shape: Shape, draw: Draw
) -> tuple[Tensor, Tensor, Scale]:
    """Points ``B x (n + q) x d`` and values ``B x (n + q)`` of the present task, and its scale."""
    points = spaces.configurations(POOL * (shape.trials + shape.queries), 1, draw)
    values, noiseless = family.values(points, slice(0, 1), draw)
    points, values, noiseless = points[:, 0], values[:, 0], standard(noiseless[:, 0])
    batch, count = values.shape
    greed = draw.uniform(-2, 3, batch, 1).clamp_min(0.0)
    trials = biased_choice(noiseless, shape.trials, greed, draw.generator)
    unused = torch.ones(batch, count, dtype=torch.bool).scatter_(1, trials, False)
    # Half of the queries prefer good values, as an acquisition function does.
    good = shape.queries // 2
    logits = noiseless.masked_fill(~unused, -torch.inf)
    good_queries = biased_choice(logits, good, torch.full((batch, 1), 2.0), draw.generator)
    unused = unused.scatter(1, good_queries, False)
    logits = torch.zeros_like(noiseless).masked_fill(~unused, -torch.inf)
    even = torch.ones(batch, 1)
    other_queries = biased_choice(logits, shape.queries - good, even, draw.generator)
    order = torch.cat([trials, good_queries, other_queries], 1)
    rows = order[..., None].expand(-1, -1, points.shape[-1])
    return points.gather(1, rows), values.gather(1, order), own_scale(values)


def _past_tasks(
    spaces: RandomSpaces, family: FunctionFamily, shape: Shape, draw: Draw
) -> tuple[Tensor, Tensor]:
    """Points ``B x t x k x d`` and values ``B x t x k``, of some tasks better than random."""
    batch, tasks, count = shape.episodes, shape.past_tasks, shape.past_trials
    if not tasks:
        empty = torch.empty(batch, 0, count, dtype=torch.float64)
        return torch.empty(batch, 0, count, shape.hyperparameters), empty
    points = spaces.configurations(POOL * count, tasks, draw)
    values, noiseless = family.values(points, slice(1, None), draw)
    greed = draw.uniform(-2, 3, batch, tasks, 1).clamp_min(0.0)
    order = biased_choice(standard(noiseless), count, greed, draw.generator)
    rows = order[..., None].expand(-1, -1, -1, points.shape[-1])
    return points.gather(2, rows), values.gather(2, order)
