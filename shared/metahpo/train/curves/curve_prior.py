"""A prior over studies of learning curves.

Curves rise as a power law, exponentially, or in an S, in one step or two; then they may fall,
diverge, stagnate or jump. They have noise. The traits of a curve are smooth functions of its
configuration, so that curves of a study resemble and cross each other.

Notation: see ``curve_batches.py``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metahpo.surrogate.curves.curve_values import Curves, sorted_reports
from metahpo.train.curves.curve_batches import TARGETS, CurveBatch, with_queries
from metahpo.train.draw import Draw
from metahpo.train.surrogate.episodes import Shape
from metahpo.train.surrogate.prior_functions import FunctionFamily
from metahpo.train.surrogate.prior_spaces import draw_spaces

# Upper bounds of the reports of a curve and of the hyperparameters of a space.
REPORTS, HYPERPARAMETERS = 60, 8
# Level, gain, speed, bend, second rise, and of a late event its time, its size, and its odds.
TRAITS = 8
# Sine waves that make up the slow deviations of a curve.
WAVES = 4


def synthetic_curves(studies: int, context: int, generator: torch.Generator) -> CurveBatch:
    """Draw a batch from the prior.

    Args:
        studies: B.
        context: k.
        generator: Source of randomness.
    """
    draw = Draw(generator)
    count = context + TARGETS
    shape = Shape(studies, 0, 0, 0, 0, int(draw.integers(1, HYPERPARAMETERS + 1, 1)))
    spaces = draw_spaces(shape, draw)
    points = spaces.configurations(count, 1, draw)
    # Each trait is a smooth function of the configuration plus noise.
    family = FunctionFamily.random(studies, TRAITS, spaces, draw)
    _, traits = family.values(points.expand(-1, TRAITS, -1, -1), slice(0, TRAITS), draw)
    noise = 10 ** draw.uniform(-2, 0, studies, TRAITS, 1)
    traits = traits.clamp(-3, 3) + noise * draw.normal(studies, TRAITS, count)
    progress = _draw_progress(studies, count, draw)
    values = _draw_values(traits.double(), progress, draw)
    progress, values = sorted_reports(progress, values)
    curves = Curves(points[:, 0].float(), progress, values)
    return with_queries(spaces.description, curves, context, generator)


def _draw_progress(studies: int, count: int, draw: Draw) -> Tensor:
    """Draw ``B x m x n`` progresses: even steps in most studies, with gaps in some curves."""
    steps = draw.integers(5, REPORTS + 1, studies, 1, 1)
    number = torch.arange(1, REPORTS + 1).view(1, 1, -1)
    even = number / steps
    is_uneven = draw.bernoulli(0.2, studies, 1, 1)
    power = torch.where(is_uneven, draw.uniform(0.6, 2.0, studies, 1, 1), 1)
    jitter = draw.uniform(-0.4, 0.4, studies, count, REPORTS) / steps
    jitter = jitter * draw.bernoulli(0.15, studies, 1, 1) * (number < steps)
    progress = (even**power + jitter).clamp(1e-3, 1.0)
    gap_share = draw.uniform(0, 0.5, studies, count, 1)
    gaps = draw.bernoulli(gap_share, studies, count, REPORTS)
    gaps = gaps & draw.bernoulli(0.2, studies, count, 1) & (number != steps) & (number > 1)
    return progress.double().masked_fill((number > steps) | gaps, torch.nan)


def _draw_values(traits: Tensor, progress: Tensor, draw: Draw) -> Tensor:
    """Draw ``B x m x n`` values, given ``B x TRAITS x m`` traits."""
    studies, count, reports = progress.shape
    level, gain, speed, bend, second, when, size, odds = traits.unsqueeze(-1).unbind(1)
    random = _StudyDraw(draw, studies)
    values = _smooth_values(progress, level, gain, speed, bend, second, random)
    # Late events: a fall, a jump (a smaller learning rate), or divergence.
    start = torch.sigmoid(random.uniform(-2, 3) + random.uniform(0.2, 1.5) * when)
    elapsed = (progress - start).clamp_min(0.0)
    happens = odds > random.uniform(-1.0, 2.5)
    fall_size = torch.exp(random.uniform(-2.5, 1.0) + 0.5 * size)
    fall = fall_size * elapsed ** random.uniform(0.5, 2.0)
    jump_size = torch.exp(random.uniform(-3, 0) + 0.5 * size)
    jump = jump_size * -torch.expm1(-elapsed / 10 ** random.uniform(-2.5, -0.5))
    values = values + happens * (jump * random.some(0.2) - fall * random.some(0.3))
    values = values + _slow_deviations(progress, draw)
    # A metric with an upper bound, or with a lower bound such as chance level.
    squashed = torch.sigmoid(2 * values)
    bent = torch.where(random.some(0.5), squashed, torch.tanh(values.clamp_min(0)))
    values = torch.where(random.some(0.4), 2.0 * bent, values)
    noise = 10 ** random.uniform(-4.5, -0.7) * torch.exp(0.5 * random.uniform(0, 1) * bend)
    values = values + noise * draw.normal(studies, count, reports)
    diverges = happens & random.some(0.15) & (elapsed > 0)
    floor = values[..., :1] - 10 ** random.uniform(-2, 4)
    values = torch.where(diverges & random.some(0.8), floor + noise * values, values)
    values = values.masked_fill(diverges & random.some(0.1), torch.nan)
    unit = 10 ** random.uniform(-3, 3)
    return values * unit + 10 ** random.uniform(-3, 2) * draw.normal(studies, 1, 1)


class _StudyDraw:
    """Random numbers that all curves of a study share, ``B x 1 x 1``.

    Args:
        draw: Source of randomness.
        studies: B.
    """

    def __init__(self, draw: Draw, studies: int) -> None:
        self.draw, self.studies = draw, studies

    def uniform(self, low: float, high: float) -> Tensor:
        return self.draw.uniform(low, high, self.studies, 1, 1)

    def some(self, share: float) -> Tensor:
        return self.draw.bernoulli(share, self.studies, 1, 1)


def _smooth_values(
    progress: Tensor,
    level: Tensor,
    gain: Tensor,
    speed: Tensor,
    bend: Tensor,
    second: Tensor,
    random: _StudyDraw,
) -> Tensor:
    """Draw curves that rise in one step or two: ``B x m x n``, given ``B x m x 1`` traits."""
    tau = 10 ** (random.uniform(-2.2, 0.5) + random.uniform(0.1, 0.5) * speed)
    power = torch.exp(random.uniform(-1.2, 1.0) + random.uniform(0.0, 0.4) * bend)
    rise = _rise(progress, tau, power, random.draw)
    second_tau = tau * 10 ** random.uniform(0.3, 1.5)
    share = torch.sigmoid(random.uniform(-2, 1) + second) * random.some(0.4)
    rise = (1 - share) * rise + share * _rise(progress, second_tau, power, random.draw)
    height = torch.exp(random.uniform(-1.0, 0.5) * gain)
    height = height * torch.where(random.some(0.1), gain.sign(), 1.0)
    start = random.uniform(0.0, 0.3) * level
    return start + random.uniform(0, 1.5) * level * rise + height * rise


def _rise(progress: Tensor, tau: Tensor, power: Tensor, draw: Draw) -> Tensor:
    """Draw a rise from 0 towards 1: a power law, an exponential, or an S."""
    kind = draw.uniform(0, 1, len(progress), 1, 1)
    relative = progress.nan_to_num(0.0) / tau
    law = 1.0 - (1.0 + relative) ** -power
    exponential = -torch.expm1(-(relative**power))
    s_shaped = relative ** (1 + power) / (1.0 + relative ** (1 + power))
    return torch.where(kind < 0.4, law, torch.where(kind < 0.75, exponential, s_shaped))


def _slow_deviations(progress: Tensor, draw: Draw) -> Tensor:
    """Draw smooth deviations from the parametric curves, in half of the studies."""
    studies, count, _ = progress.shape
    frequency = 10 ** draw.uniform(-0.5, 1.0, studies, 1, 1, WAVES)
    phase = draw.uniform(0, 2 * math.pi, studies, count, 1, WAVES)
    scale = 10 ** draw.uniform(-3.5, -0.8, studies, 1, 1, 1)
    scale = scale * draw.bernoulli(0.5, studies, 1, 1, 1)
    amplitude = scale * draw.normal(studies, count, 1, WAVES) / frequency
    angle = 2 * math.pi * frequency * progress.unsqueeze(-1) + phase
    return (amplitude * torch.sin(angle)).sum(-1)
