"""Episodes: what a neural surrogate is meta-trained on, in batches of one shape.

An episode is a study with n trials, the trials of t past tasks, and configurations of the
present space whose values are to be predicted. Where episodes come from is the business of
``prior.py`` (made up) and ``recorded.py`` (real tasks); here they become the network's inputs
and targets, with values standardised as they will be when a real study asks.

Notation: B episodes, t past tasks of k trials, n present trials, q queries, d hyperparameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from metahpo.surrogate.networks.space_description import Description
from metahpo.surrogate.neural.neural_process import PastTrials, Trials
from metahpo.surrogate.standardise import Scale, own_scale, study_scale, two_views


@dataclass(frozen=True)
class Shape:
    """Sizes of a batch of episodes.

    Attributes:
        episodes: B.
        past_tasks: t, may be 0.
        past_trials: k.
        trials: n, may be 0.
        queries: q.
        hyperparameters: d at most.
    """

    episodes: int
    past_tasks: int
    past_trials: int
    trials: int
    queries: int
    hyperparameters: int


@dataclass(frozen=True, eq=False)
class Episodes:
    """A batch, in values as tasks have them.

    Attributes:
        description: Of B spaces.
        points: ``B x (n + q) x d``, trials before queries, NaN where inactive.
        values: ``B x (n + q)``, float64.
        trials: n.
        population: How the present task's values spread over its whole space.
        past_points: ``B x t x k x d``.
        past_values: ``B x t x k``, float64.
        known: ``B x t x d``, whether the past task has the hyperparameter.
        relevance: ``B x t``, as in ``PastTrials``; 0 where nothing is known.
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
    """The network's inputs, and what it should answer.

    Attributes:
        description: Of B spaces.
        trials: ``B x n``.
        queries: ``B x q x d``.
        past: None where t is 0.
        targets: ``B x q`` scores.
    """

    description: Description
    trials: Trials
    queries: Tensor
    past: PastTrials | None
    targets: Tensor

    def to(self, device: torch.device) -> Batch:
        """On another device."""
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
    """The batch as the network sees it.

    A study of one trial has no unit of its own, and one of none has no centre either; where the
    past does not give them, targets are standardised over the task's whole space.
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
    """The same studies without history."""
    return replace(
        episodes,
        past_points=episodes.past_points[:, :0],
        past_values=episodes.past_values[:, :0],
        known=episodes.known[:, :0],
        relevance=episodes.relevance[:, :0],
    )


# Context sizes: ranges and how often each is drawn. Small ones are where a surrogate that knows
# the past matters most.
TRIALS = (((0, 0), 0.08), ((1, 5), 0.3), ((6, 20), 0.37), ((21, 60), 0.2), ((61, 150), 0.05))
PAST_TASKS = (((0, 0), 0.15), ((1, 4), 0.3), ((5, 10), 0.35), ((11, 20), 0.2))
PAST_TRIALS = (((5, 15), 0.25), ((16, 40), 0.5), ((41, 80), 0.25))
HYPERPARAMETERS = (((1, 3), 0.2), ((4, 7), 0.35), ((8, 14), 0.3), ((15, 26), 0.15))
QUERIES = 64
# A score beyond this is as far as one needs to know.
LARGEST_TARGET = 10.0
MOST_EPISODES = 48


def draw_shape(rng: np.random.Generator, budget: int) -> Shape:
    """Sizes of the next batch; as many episodes as cost about the same for any of the others.

    Args:
        rng: Of the sizes.
        budget: Tokens of the transformer a batch, counting eight (hyperparameter, value) pairs
            as one.
    """
    trials, tasks, past_trials, hyperparameters = (
        _drawn(rng, ranges) for ranges in (TRIALS, PAST_TASKS, PAST_TRIALS, HYPERPARAMETERS)
    )
    rows = trials + QUERIES + tasks * past_trials
    tokens = trials + QUERIES + 4 * tasks
    cost = tokens * (1 + tokens / 400) + rows * (0.3 + hyperparameters / 8)
    episodes = int(np.clip(budget / cost, 2, MOST_EPISODES))
    return Shape(episodes, tasks, past_trials, trials, QUERIES, hyperparameters)


def _drawn(rng: np.random.Generator, ranges: tuple[tuple[tuple[int, int], float], ...]) -> int:
    low, high = ranges[rng.choice(len(ranges), p=[share for _, share in ranges])][0]
    return int(rng.integers(low, high + 1))


def biased_choice(values: Tensor, count: int, greed: Tensor, generator: torch.Generator) -> Tensor:
    """Rows without replacement, better ones more often: as if somebody had optimised.

    Args:
        values: ``... x m``, standardised.
        count: At most m.
        greed: Broadcasts with values; 0 draws evenly, 3 prefers the best clearly.
        generator: Of the choice.

    Returns:
        ``... x count`` indices, in the order of the draws.
    """
    noise = torch.rand(values.shape, generator=generator).clamp(1e-7, 1 - 1e-7)
    gumbel = -torch.log(-torch.log(noise))
    return (greed * values.float() + gumbel).topk(count, dim=-1).indices
