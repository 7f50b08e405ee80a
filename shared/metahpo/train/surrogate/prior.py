"""A prior over families of tuning problems: episodes that nobody measured.

A family is a search space (``prior_spaces.py``) and a few random functions on it
(``prior_functions.py``); its tasks are mixtures of these functions, nearby ones for related
tasks, seen through the tasks' own shifts, units and noise. Some past tasks have nothing to do
with the present one, and some are its opposite.

Everything is drawn for all episodes of a batch at once. Notation: see ``episodes.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metahpo.surrogate.standardise import own_scale
from metahpo.train.draw import Draw
from metahpo.train.surrogate.episodes import Episodes, Shape, biased_choice
from metahpo.train.surrogate.prior_functions import Family, standard
from metahpo.train.surrogate.prior_spaces import RandomSpaces, draw_spaces

# Candidates from which trials and queries are chosen, for each of them.
POOL = 2


def synthetic_episodes(shape: Shape, generator: torch.Generator) -> Episodes:
    """A batch of made-up episodes.

    Args:
        shape: Its sizes.
        generator: Of everything.
    """
    draw = Draw(generator)
    spaces = draw_spaces(shape, draw)
    tasks = 1 + shape.past_tasks
    family = Family.drawn(shape.episodes, tasks, spaces, draw)
    wanted = shape.trials + shape.queries
    points, values, population = _present(spaces, family, wanted, shape.trials, draw)
    past_points, past_values = _past(spaces, family, shape, draw)
    lacking = draw.chance(0.05, shape.episodes, shape.past_tasks, shape.hyperparameters)
    known = ~(lacking & draw.chance(0.3, shape.episodes, 1, 1))
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


def _present(spaces: RandomSpaces, family: Family, wanted: int, trials: int, draw: Draw):
    """Points, values and population of the present task, trials first."""
    points = spaces.configurations(POOL * wanted, 1, draw)
    values, plain = family.values(points, slice(0, 1), draw)
    points, values, plain = points[:, 0], values[:, 0], standard(plain[:, 0])
    batch, count = values.shape
    greed = draw.uniform(-2, 3, batch, 1).clamp_min(0.0)
    context = biased_choice(plain, trials, greed, draw.generator)
    left = torch.ones(batch, count, dtype=torch.bool).scatter_(1, context, False)
    # Half of the queries look for good values, as an acquisition function does.
    some = wanted - trials
    barred = plain.masked_fill(~left, -torch.inf)
    good = biased_choice(barred, some // 2, torch.full((batch, 1), 2.0), draw.generator)
    left = left.scatter(1, good, False)
    barred = torch.zeros_like(plain).masked_fill(~left, -torch.inf)
    rest = biased_choice(barred, some - some // 2, torch.ones(batch, 1), draw.generator)
    order = torch.cat([context, good, rest], 1)
    rows = order[..., None].expand(-1, -1, points.shape[-1])
    return points.gather(1, rows), values.gather(1, order), own_scale(values)


def _past(spaces: RandomSpaces, family: Family, shape: Shape, draw: Draw) -> tuple[Tensor, Tensor]:
    """``B x t x k x d`` points and ``B x t x k`` values, some tasks' better than random."""
    batch, tasks, count = shape.episodes, shape.past_tasks, shape.past_trials
    if not tasks:
        empty = torch.empty(batch, 0, count, dtype=torch.float64)
        return torch.empty(batch, 0, count, shape.hyperparameters), empty
    points = spaces.configurations(POOL * count, tasks, draw)
    values, plain = family.values(points, slice(1, None), draw)
    greed = draw.uniform(-2, 3, batch, tasks, 1).clamp_min(0.0)
    order = biased_choice(standard(plain), count, greed, draw.generator)
    rows = order[..., None].expand(-1, -1, -1, points.shape[-1])
    return points.gather(2, rows), values.gather(2, order)
