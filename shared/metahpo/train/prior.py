"""A prior over families of tuning problems: episodes that nobody measured.

A family is a search space and a few random functions on it; its tasks are mixtures of these
functions, nearby ones for related tasks, seen through the tasks' own shifts, units and noise.
Functions are sums of a Gaussian process (random Fourier features: Rahimi and Recht 2007), a
random network and a bowl. Values then get what values of tuning problems have: plateaus above
and below, cliffs, skew, steps and noise that is larger in some places. Some past tasks have
nothing to do with the present one, and some are its opposite.

Everything is drawn for all episodes of a batch at once. Notation: see ``episodes.py``; e = 2 d
inputs of the functions, two a hyperparameter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metahpo.surrogate.description import (
    CHOICE_SIGNS,
    FACTS,
    IDENTITY_SIGNS,
    Description,
)
from metahpo.surrogate.standardise import own_scale
from metahpo.train.episodes import Episodes, Shape, biased_choice

# Most choices of a categorical hyperparameter; features of the Gaussian process; functions that a
# family's tasks are mixed from; units of the network.
CHOICES, WAVES, BASIS, UNITS = 6, 64, 4, 24
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


@dataclass(frozen=True)
class Draw:
    """Random tensors from one generator.

    Attributes:
        generator: Where they come from.
    """

    generator: torch.Generator

    def uniform(self, low: float, high: float, *size: int) -> Tensor:
        """In [low, high)."""
        return low + (high - low) * torch.rand(size, generator=self.generator)

    def normal(self, *size: int) -> Tensor:
        """Standard normal."""
        return torch.randn(size, generator=self.generator)

    def chance(self, probability: float | Tensor, *size: int) -> Tensor:
        """True so often."""
        return torch.rand(size, generator=self.generator) < probability

    def whole(self, low: int, high: int, *size: int) -> Tensor:
        """Whole numbers from low to high - 1."""
        return torch.randint(low, high, size, generator=self.generator)

    def signs(self, *size: int) -> Tensor:
        """1 or -1."""
        return 2.0 * self.whole(0, 2, *size) - 1.0


# ---- spaces --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RandomSpaces:
    """B search spaces.

    Attributes:
        description: What the network is told.
        levels: ``B x d``, 0 for continuous ones.
        parent: ``B``, the hyperparameter on which conditional ones depend.
        admitted: ``B x d x CHOICES``, the parent's choices with which each is active.
    """

    description: Description
    levels: Tensor
    parent: Tensor
    admitted: Tensor

    def configurations(self, count: int, tasks: int, draw: Draw) -> Tensor:
        """``B x tasks x count x d`` points, half of them around others, NaN where inactive."""
        batch, d = self.levels.shape
        half = (count + 1) // 2
        points = draw.uniform(0, 1, batch, tasks, half, d)
        width = 10 ** draw.uniform(-2, -0.5, batch, tasks, half, 1)
        moved = points + width * draw.normal(batch, tasks, half, d)
        near = torch.where(draw.chance(0.4, batch, tasks, half, d), moved.clamp(0, 1), points)
        # Whose surroundings: not each point's own, so that some points have many neighbours.
        whose = (draw.uniform(0, 1, batch, tasks, half, 1).square() * half).long()
        near = near.gather(2, whose.expand(-1, -1, -1, d))
        return self._existing(torch.cat([points, near], 2)[:, :, :count])

    def _existing(self, points: Tensor) -> Tensor:
        levels = self.levels[:, None, None]
        whole = ((points * levels).floor().clamp_max(levels - 1) + 0.5) / levels.clamp_min(1)
        points = torch.where(levels > 0, whole, points)
        batch, tasks, count, _ = points.shape
        parent = self.parent.view(batch, 1, 1, 1).expand(-1, tasks, count, 1)
        of_parent = self.levels.gather(1, self.parent[:, None]).view(batch, 1, 1)
        choice = (points.gather(-1, parent).squeeze(-1) * of_parent).long().clamp(0, CHOICES - 1)
        rows = torch.arange(batch).view(batch, 1, 1).expand_as(choice)
        active = self.admitted.transpose(1, 2)[rows, choice]
        return points.masked_fill(~active, torch.nan)


def draw_spaces(shape: Shape, draw: Draw) -> RandomSpaces:
    """Search spaces with up to ``shape.hyperparameters`` hyperparameters of all kinds."""
    batch, d = shape.episodes, shape.hyperparameters
    count = draw.whole((d + 1) // 2, d + 1, batch)
    present = torch.arange(d) < count[:, None]
    kind = draw.uniform(0, 1, batch, d)
    categorical, whole = kind < 0.22, (kind >= 0.22) & (kind < 0.45)
    choices = torch.where(categorical, draw.whole(2, CHOICES + 1, batch, d), 0)
    steps = torch.where(whole, (10 ** draw.uniform(0.3, 3, batch, d)).long(), 0)
    levels = torch.where(categorical, choices, steps)
    log = ~categorical & draw.chance(0.4, batch, d)
    parent, admitted = _conditions(categorical, choices, present, draw)
    conditional = ~admitted.all(-1)
    codes = draw.signs(batch, d, CHOICES, CHOICE_SIGNS)
    codes = codes * (torch.arange(CHOICES) < choices[..., None])[..., None]
    return RandomSpaces(
        description=Description(
            facts=_facts(categorical, whole, log, levels, conditional, draw),
            # Names of real hyperparameters may mean anything now and then; most are unknown.
            roles=torch.where(draw.chance(0.15, batch, d), draw.whole(1, 46, batch, d), 0),
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
    """One parent a space, if it has a categorical hyperparameter, and what depends on it."""
    batch, d = categorical.shape
    candidates = categorical & present
    parent = (candidates + draw.uniform(0, 0.5, batch, d)).argmax(-1)
    has_parent = candidates.gather(1, parent[:, None]).squeeze(1) & draw.chance(0.5, batch)
    child = draw.chance(0.35, batch, d) & has_parent[:, None]
    child.scatter_(1, parent[:, None], False)
    allowed = draw.chance(0.5, batch, d, CHOICES)
    # At least one choice, so that no hyperparameter is never active.
    of_parent = choices.gather(1, parent[:, None]).clamp_min(1)
    certain = (draw.uniform(0, 1, batch, d) * of_parent).long()
    allowed.scatter_(2, certain[..., None], True)
    return parent, allowed | ~child[..., None]


def _facts(
    categorical: Tensor,
    whole: Tensor,
    log: Tensor,
    levels: Tensor,
    conditional: Tensor,
    draw: Draw,
) -> Tensor:
    """``B x d x FACTS`` in the order of ``description.py``."""
    batch, d = categorical.shape
    low = draw.uniform(0, 1, batch, d)
    high = low + draw.uniform(0.1, 0.8, batch, d)
    numerical = (~categorical).float()
    facts = torch.stack(
        [
            (~categorical & ~whole).float(),
            whole.float(),
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


# ---- functions -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Family:
    """The functions of B families; task 0 is the present one.

    Attributes:
        choice_places: ``B x d x CHOICES x 2``, inputs that stand for choices.
        bends: ``B x d``, exponents that bend a hyperparameter's axis.
        shifts: ``B x tasks x e``.
        frequencies: ``B x e x WAVES``.
        phases: ``B x WAVES``.
        amplitudes: ``B x tasks x WAVES``, of the Gaussian process.
        noise_amplitudes: ``B x WAVES``, of the logarithm of the noise.
        network: Two layers, ``B x e x UNITS`` and ``B x tasks x UNITS``.
        optimum: ``B x tasks x e``.
        curvature: ``B x e``.
        mixture: ``B x 3``, of the three parts.
        look: What becomes of the values.
        latent: ``B x tasks x BASIS``, what a task is mixed from.
        categorical: ``B x d``.
    """

    choice_places: Tensor
    bends: Tensor
    shifts: Tensor
    frequencies: Tensor
    phases: Tensor
    amplitudes: Tensor
    noise_amplitudes: Tensor
    network: tuple[Tensor, Tensor]
    optimum: Tensor
    curvature: Tensor
    mixture: Tensor
    look: Look
    latent: Tensor
    categorical: Tensor

    @classmethod
    def drawn(cls, batch: int, tasks: int, spaces: RandomSpaces, draw: Draw) -> Family:
        """Families on spaces."""
        d = spaces.levels.shape[1]
        latent = _latent(batch, tasks, draw)
        inverse_lengths = _inverse_lengthscales(spaces.description.present, draw)
        heavy = (5.0 / draw.normal(batch, 1, WAVES, 5).square().sum(-1)).sqrt()
        frequencies = inverse_lengths[..., None] * draw.normal(batch, 2 * d, WAVES) * heavy
        centre = draw.uniform(0, 1, batch, BASIS, 2 * d)
        weights = latent.softmax(-1)
        own = 10 ** draw.uniform(-2.5, -0.7, batch, 1, 1)
        relevance = (inverse_lengths * draw.normal(batch, 2 * d).exp()).square()
        return cls(
            choice_places=0.6 * draw.normal(batch, d, CHOICES, 2) + 0.5,
            bends=(0.4 * draw.normal(batch, d)).exp(),
            shifts=own * draw.normal(batch, tasks, 2 * d),
            frequencies=frequencies,
            phases=draw.uniform(0, 2 * math.pi, batch, WAVES),
            amplitudes=latent @ draw.normal(batch, BASIS, WAVES) * math.sqrt(2 / WAVES),
            noise_amplitudes=draw.normal(batch, WAVES) * math.sqrt(2 / WAVES),
            network=(
                inverse_lengths[..., None] * 2.0 * draw.normal(batch, 2 * d, UNITS),
                latent @ draw.normal(batch, BASIS, UNITS) / math.sqrt(UNITS),
            ),
            optimum=weights @ centre + own * draw.normal(batch, tasks, 2 * d),
            curvature=relevance / relevance.mean(-1, keepdim=True).clamp_min(1e-6) / (2 * d),
            mixture=draw.normal(batch, 3).square() * draw.chance(0.75, batch, 3) + 1e-2,
            look=Look.drawn(batch, tasks, 2 * d, draw),
            latent=latent,
            categorical=spaces.description.choices > 0,
        )

    def values(self, points: Tensor, tasks: slice, draw: Draw) -> tuple[Tensor, Tensor]:
        """Values at ``B x k x m x d`` points of k tasks.

        Returns:
            ``B x k x m``: as observed, and standardised without noise and units.
        """
        inputs = self._inputs(points)
        moved = inputs + self.shifts[:, tasks, None]
        projected = moved @ self.frequencies[:, None] + self.phases[:, None, None]
        waves = projected.cos()
        process = torch.einsum("bkmr,bkr->bkm", waves, self.amplitudes[:, tasks])
        first, last = self.network
        hidden = self.look.activated(moved @ first[:, None] + self.phases[:, None, None, :UNITS])
        network = torch.einsum("bkmu,bku->bkm", hidden, last[:, tasks])
        distance = (inputs - self.optimum[:, tasks, None]).abs() ** self.look.power
        bowl = -(distance * self.curvature[:, None, None]).sum(-1)
        parts = torch.stack([_unit(process), _unit(network), _unit(bowl)], -1)
        smooth = _unit((parts * self.mixture[:, None, None]).sum(-1))
        noise = (waves * self.noise_amplitudes[:, None, None]).sum(-1)
        return self.look.applied(smooth, inputs, noise, tasks, draw)

    def _inputs(self, points: Tensor) -> Tensor:
        """``B x k x m x e``; inactive ones are put in a place of their own."""
        active = ~points.isnan()
        position = torch.where(active, points, 0.5)
        bent = position.clamp_min(1e-6) ** self.bends[:, None, None]
        chosen = (position * (CHOICES - 1e-3)).long()
        batch, d = self.bends.shape
        rows = torch.arange(batch).view(batch, 1, 1, 1).expand_as(chosen)
        columns = torch.arange(d).expand_as(chosen)
        places = self.choice_places[rows, columns, chosen]
        numbers = torch.stack([bent, torch.full_like(bent, 0.5)], -1)
        inputs = torch.where(self.categorical[:, None, None, :, None], places, numbers)
        inputs = torch.where(active[..., None], inputs, self.choice_places[:, None, None, :, 0])
        return inputs.flatten(-2)

    def relevance(self, draw: Draw) -> Tensor:
        """``B x t``: what meta-features would tell of each past task; in half of the families."""
        latent = self.latent + 0.3 * draw.normal(*self.latent.shape)
        squares = (latent[:, 1:] - latent[:, :1]).square().mean(-1)
        weights = (-2.0 * squares).log_softmax(-1) + math.log(max(squares.shape[1], 1))
        return weights.clamp_min(-6.0) * draw.chance(0.5, len(squares), 1)


def _latent(batch: int, tasks: int, draw: Draw) -> Tensor:
    """What each task is mixed from: tasks of a family lie around a common centre.

    In some families, some past tasks lie anywhere, or opposite.
    """
    spread = 10 ** draw.uniform(-1.3, 0.2, batch, 1, 1)
    centre = draw.normal(batch, 1, BASIS)
    latent = centre + spread * draw.normal(batch, tasks, BASIS)
    share = draw.uniform(-0.6, 0.6, batch, 1).clamp_min(0.0)
    share = torch.where(draw.chance(0.06, batch, 1), 1.0, share)
    unrelated = draw.chance(share, batch, tasks)
    latent = torch.where(unrelated[..., None], 1.3 * draw.normal(batch, tasks, BASIS), latent)
    opposed = draw.chance(torch.where(draw.chance(0.06, batch, 1), 0.9, 0.03), batch, tasks)
    opposed[:, 0] = False
    return torch.where(opposed[..., None], -latent, latent)


def _inverse_lengthscales(present: Tensor, draw: Draw) -> Tensor:
    """``B x e``: few hyperparameters matter much, many little, absent ones not at all."""
    batch, d = present.shape
    count = present.sum(-1, keepdim=True)
    logs = 0.9 * draw.normal(batch, d) + math.log(2.5) - 0.5 * count.log()
    matters = (draw.chance(0.75, batch, d) & present).float()
    return (logs.exp() * matters).repeat_interleave(2, 1)


@dataclass(frozen=True, eq=False)
class Look:
    """What becomes of smooth values, ``B x ...`` each.

    Attributes:
        power: Of the bowl, ``B x 1 x 1 x 1``.
        steep: Which network's units are steps.
        skew: Of an exponential that lengthens one tail; 0 for none.
        ceiling: Scores at which values level off; infinite for none.
        floor: Likewise below.
        cliff: ``B x e``, the direction in which values fall at ``edge``; 0 for none.
        edge: Where.
        fall: How deep.
        step: Of rounded values; 0 for none.
        noise: Its logarithm.
        unit: ``B x tasks``.
        offset: ``B x tasks``.
    """

    power: Tensor
    steep: Tensor
    skew: Tensor
    ceiling: Tensor
    floor: Tensor
    cliff: Tensor
    edge: Tensor
    fall: Tensor
    step: Tensor
    noise: Tensor
    unit: Tensor
    offset: Tensor

    @classmethod
    def drawn(cls, batch: int, tasks: int, inputs: int, draw: Draw) -> Look:
        """At random; each oddity in some families."""

        def some(share: float, values: Tensor, otherwise: float) -> Tensor:
            return torch.where(draw.chance(share, batch, 1, 1), values, otherwise)

        one = (batch, 1, 1)
        usual = draw.normal(batch, 1)
        foreign = draw.chance(0.1, batch, 1) * 2.0 * draw.normal(batch, tasks)
        unit = (usual + 0.3 * draw.normal(batch, tasks) + foreign).exp()
        steep = draw.normal(batch, inputs) * draw.chance(2.0 / inputs, batch, inputs)
        return cls(
            power=draw.uniform(0.7, 2.5, batch, 1, 1, 1),
            steep=draw.chance(0.3, batch, 1, 1, 1),
            skew=some(0.6, draw.uniform(-1.5, 0.7, *one), 0.0),
            ceiling=some(0.3, draw.uniform(-0.5, 2.0, *one), math.inf),
            floor=some(0.35, draw.uniform(-1.5, 0.3, *one), -math.inf),
            cliff=steep * draw.chance(0.3, batch, 1),
            edge=draw.uniform(0.2, 1.2, *one),
            fall=10 ** draw.uniform(0, 1, *one),
            step=some(0.15, 10 ** draw.uniform(-2, -0.5, *one), 0.0),
            noise=some(0.8, draw.uniform(-7.0, -1.0, *one), -9.0),
            unit=unit.double(),
            offset=(3.0 * draw.normal(batch, 1) * usual.exp()
                    + unit * draw.normal(batch, tasks)).double(),
        )  # fmt: skip

    def activated(self, hidden: Tensor) -> Tensor:
        """The network's units."""
        return torch.where(self.steep, (hidden > 0).float(), hidden.tanh())

    def applied(
        self, smooth: Tensor, inputs: Tensor, noise: Tensor, tasks: slice, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """As ``Family.values`` returns."""
        skewed = torch.expm1(self.skew * smooth) / torch.where(self.skew == 0, 1.0, self.skew)
        values = torch.where(self.skew == 0, smooth, skewed)
        values = torch.minimum(torch.maximum(values, self.floor), self.ceiling)
        beyond = ((inputs - 0.5) * self.cliff[:, None, None]).sum(-1) > 0.3 * self.edge
        values = torch.where(beyond & (self.fall > 4), -self.fall.expand_as(values), values)
        values = torch.where(beyond & (self.fall <= 4), values - self.fall, values)
        spread = (self.noise + noise).clamp_max(0.0).exp()
        observed = values + spread * draw.normal(*values.shape)
        rounded = (observed / self.step.clamp_min(1e-6)).round() * self.step
        observed = torch.where(self.step > 0, rounded, observed).double()
        raw = self.offset[:, tasks, None] + self.unit[:, tasks, None] * observed
        return raw, values


def _unit(values: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the last dimension, as far as they vary."""
    centred = values - values.mean(-1, keepdim=True)
    return centred / centred.std(-1, keepdim=True).clamp_min(1e-3)


# ---- trials --------------------------------------------------------------------------------


def _present(spaces: RandomSpaces, family: Family, wanted: int, trials: int, draw: Draw):
    """Points, values and population of the present task, trials first."""
    points = spaces.configurations(POOL * wanted, 1, draw)
    values, plain = family.values(points, slice(0, 1), draw)
    points, values, plain = points[:, 0], values[:, 0], _unit(plain[:, 0])
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
    order = biased_choice(_unit(plain), count, greed, draw.generator)
    rows = order[..., None].expand(-1, -1, -1, points.shape[-1])
    return points.gather(2, rows), values.gather(2, order)


def without_past(episodes: Episodes) -> Episodes:
    """The same studies without history."""
    return replace(
        episodes,
        past_points=episodes.past_points[:, :0],
        past_values=episodes.past_values[:, :0],
        known=episodes.known[:, :0],
        relevance=episodes.relevance[:, :0],
    )
