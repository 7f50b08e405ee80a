"""Episodes, the training examples of the neural surrogate, in batches of one shape.

An episode is a study with n trials, the trials of t past tasks, and query configurations of the
same space whose values are to be predicted. Episodes are generated in ``prior.py`` (synthetic) and
``recorded.py`` (real tasks). This module turns them into the network's inputs and targets, with
values standardised exactly as they are for a real study.

Notation: B episodes, t past tasks of k trials, n trials of the present task, q queries,
d hyperparameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from metahpo.surrogate.networks.space_description import Description
from metahpo.surrogate.neural.neural_process import PastTrials, Trials
from metahpo.surrogate.standardise import Scale, own_scale, study_scale, two_views

# Ranges of context sizes and their probabilities. Small contexts are frequent, because that is
# where past tasks matter most.
TRIALS = (((0, 0), 0.08), ((1, 5), 0.3), ((6, 20), 0.37), ((21, 60), 0.2), ((61, 150), 0.05))
PAST_TASKS = (((0, 0), 0.15), ((1, 4), 0.3), ((5, 10), 0.35), ((11, 20), 0.2))
PAST_TRIALS = (((5, 15), 0.25), ((16, 40), 0.5), ((41, 80), 0.25))
HYPERPARAMETERS = (((1, 3), 0.2), ((4, 7), 0.35), ((8, 14), 0.3), ((15, 26), 0.15))
QUERIES = 64
# Targets above this score are clipped in the loss: larger ones need no better prediction.
MAX_TARGET = 10.0
MAX_EPISODES = 48


@dataclass(frozen=True)
class Shape:
    """Sizes of a batch of episodes.

    Attributes:
        episodes: B.
        past_tasks: t, may be 0.
        past_trials: k.
        trials: n, may be 0.
        queries: q.
        hyperparameters: Upper bound of d.
    """

    episodes: int
    past_tasks: int
    past_trials: int
    trials: int
    queries: int
    hyperparameters: int


@dataclass(frozen=True, eq=False)
class Episodes:
    """A batch of episodes, with values in the tasks' own units.

    Attributes:
        description: The B search spaces.
        points: ``B x (n + q) x d``, trials before queries, NaN where inactive.
        values: ``B x (n + q)``, float64.
        trials: n.
        population: Centre and unit of the present task's values over its whole space, ``B``.
        past_points: ``B x t x k x d``.
        past_values: ``B x t x k``, float64.
        known: ``B x t x d``, whether the past task has the hyperparameter.
        relevance: ``B x t``, as in ``PastTrials``; 0 where it is unknown.
    """

    description: Description
    points: Tensor
    values: Tensor
    trials: int
    population: Scale
    past_points: Tensor
    past_values: Tensor
    known: Tensor
    relevance: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """The network's inputs and targets.

    Attributes:
        description: The B search spaces.
        trials: ``B x n``.
        queries: ``B x q x d``.
        past: None if t is 0.
        targets: ``B x q`` scores.
    """

    description: Description
    trials: Trials
    queries: Tensor
    past: PastTrials | None
    targets: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return a copy on the given device."""
        past = self.past and PastTrials(
            Trials(*(tensor.to(device) for tensor in self.past.trials)),
            *(None if tensor is None else tensor.to(device) for tensor in self.past[1:]),
        )
        return replace(
            self,
            description=self.description.to(device),
            trials=Trials(*(tensor.to(device) for tensor in self.trials)),
            queries=self.queries.to(device),
            past=past,
            targets=self.targets.to(device),
        )


def standardised(episodes: Episodes) -> Batch:
    """Return the batch as the network receives it.

    A study of one trial has no unit, and one of none has no centre either. If past tasks do not
    supply them, targets are standardised over the task's whole space.
    """
    n = episodes.trials
    observed = episodes.values[:, :n]
    past, past_unit = None, None
    if episodes.past_values.shape[1]:
        own = own_scale(episodes.past_values)
        past_unit = own.unit.log().median(-1).values.exp()
        views = two_views(episodes.past_values, own)
        past = PastTrials(
            Trials(episodes.past_points.float(), views),
            known=episodes.known,
            relevance=episodes.relevance,
        )
    scale = study_scale(observed, past_unit)
    if n == 0:
        scale = episodes.population
    elif n == 1 and past is None:
        scale = Scale(scale.centre, episodes.population.unit)
    points = episodes.points.float()
    return Batch(
        description=episodes.description,
        trials=Trials(points[:, :n], two_views(observed, scale)),
        queries=points[:, n:],
        past=past,
        targets=scale.scores(episodes.values[:, n:]),
    )


def without_past(episodes: Episodes) -> Episodes:
    """Return the same studies without past tasks."""
    return replace(
        episodes,
        past_points=episodes.past_points[:, :0],
        past_values=episodes.past_values[:, :0],
        known=episodes.known[:, :0],
        relevance=episodes.relevance[:, :0],
    )


# ---- random sizes and choices --------------------------------------------------------------


def draw_shape(rng: np.random.Generator, budget: int) -> Shape:
    """Draw the sizes of a batch; the number of episodes keeps the cost about constant.

    Args:
        rng: Source of randomness.
        budget: Transformer tokens in a batch, where eight (hyperparameter, value) pairs count as
            one token.
    """
    trials, tasks, past_trials, hyperparameters = (
        _draw_size(rng, ranges) for ranges in (TRIALS, PAST_TASKS, PAST_TRIALS, HYPERPARAMETERS)
    )
    rows = trials + QUERIES + tasks * past_trials
    tokens = trials + QUERIES + 4 * tasks
    cost = tokens * (1 + tokens / 400) + rows * (0.3 + hyperparameters / 8)
    episodes = int(np.clip(budget / cost, 2, MAX_EPISODES))
    return Shape(episodes, tasks, past_trials, trials, QUERIES, hyperparameters)


def _draw_size(rng: np.random.Generator, ranges: tuple[tuple[tuple[int, int], float], ...]) -> int:
    low, high = ranges[rng.choice(len(ranges), p=[share for _, share in ranges])][0]
    return int(rng.integers(low, high + 1))


def biased_choice(values: Tensor, count: int, greed: Tensor, generator: torch.Generator) -> Tensor:
    """Sample rows without replacement, preferring good ones, as an optimiser's trials would be.

    Gumbel top-k sampling with logits ``greed * values``.

    Args:
        values: ``... x m``, standardised.
        count: Number of rows, at most m.
        greed: Broadcasts with ``values``; 0 samples uniformly, 3 strongly prefers the best.
        generator: Source of randomness.

    Returns:
        ``... x count`` indices, in the order of the draws.
    """
    noise = torch.rand(values.shape, generator=generator).clamp(1e-7, 1 - 1e-7)
    gumbel = -torch.log(-torch.log(noise))
    return (greed * values.float() + gumbel).topk(count, dim=-1).indices
