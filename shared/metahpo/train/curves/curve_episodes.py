"""Studies of learning curves to meta-train on: made up, and recorded.

A batch has B studies of m curves, the first k of them context, all seen up to one progress. Made
up ones come from a prior: curves that rise as a power law, exponentially, or in an S, in one step
or two, and that then may fall, diverge, stand still or jump, with noise; what each curve does is a
smooth function of its configuration, so that curves of a study cross and resemble each other.
Recorded ones are drawn from the trials of an archive's tasks.

Notation: see ``surrogate/curves.py``; n reports a curve at most, d hyperparameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metahpo.archive import Archive
from metahpo.surrogate.curves.curve_values import Curves, at_progress, tidy
from metahpo.surrogate.networks.space_description import Description, describe, stack
from metahpo.tasks.space import Array, Space
from metahpo.tasks.task import Task
from metahpo.train.draw import Draw
from metahpo.train.surrogate.episodes import Shape
from metahpo.train.surrogate.prior_functions import Family
from metahpo.train.surrogate.prior_spaces import draw_spaces
from metahpo.train.surrogate.recorded import RecordError
from metahpo.train.surrogate.variations import anonymous

# A shorter curve, or a task of fewer curves, teaches nothing.
LEAST_REPORTS, LEAST_CURVES = 4, 12
# Reports of a made-up curve at most; hyperparameters of a made-up space at most.
REPORTS, HYPERPARAMETERS = 60, 8
# Targets a study, progresses asked for in each.
TARGETS, ASKED = 6, 4
MOST_CONTEXT = 10


@dataclass(frozen=True, eq=False)
class CurveBatch:
    """The network's inputs, and what it should answer.

    Attributes:
        description: Of B spaces.
        curves: ``B x m``, reported to the end.
        now: B, the progress up to which they are seen.
        asked: ``B x r`` progresses.
        context: k.
        targets: ``B x m x r`` values, NaN where nobody knows.
    """

    description: Description
    curves: Curves
    now: Tensor
    asked: Tensor
    context: int
    targets: Tensor

    def to(self, device: torch.device) -> CurveBatch:
        """On another device."""
        return replace(
            self,
            description=self.description.to(device),
            curves=Curves(*(part.to(device) for part in self.curves)),
            **{name: getattr(self, name).to(device) for name in ("now", "asked", "targets")},
        )


def draw_context(rng: np.random.Generator) -> int:
    """The number of other curves; often none."""
    return 0 if rng.random() < 0.25 else int(rng.integers(1, MOST_CONTEXT + 1))


def asked_about(
    description: Description, curves: Curves, context: int, generator: torch.Generator
) -> CurveBatch:
    """A batch of what is drawn: how far the curves are seen, and what is asked.

    Args:
        description: Of B spaces.
        curves: ``B x m`` whole curves.
        context: k.
        generator: Of everything.
    """
    draw = Draw(generator)
    batch = len(curves.progress)
    now = draw.uniform(0, 1, batch).double() ** 1.5 * 0.95
    # At least one report of each curve that is asked about, if it has any.
    first = curves.progress[:, context:, 0].nan_to_num(0.0).amax(-1)
    now = now.maximum(first)
    ahead = now.unsqueeze(-1) + (1.0 - now.unsqueeze(-1)) * draw.uniform(0, 1, batch, 2)
    anywhere = draw.uniform(0, 1, batch, 1).double()
    asked = torch.cat([torch.ones(batch, 1, dtype=torch.float64), ahead, anywhere], -1)
    every = asked.unsqueeze(1).expand(-1, curves.progress.shape[1], -1)
    targets = at_progress(curves.progress, curves.values, every)
    return CurveBatch(description, curves, now, asked, context, targets)


# ---- the prior -----------------------------------------------------------------------------


def synthetic_curves(studies: int, context: int, generator: torch.Generator) -> CurveBatch:
    """A batch from the prior.

    Args:
        studies: B.
        context: k.
        generator: Of everything.
    """
    draw = Draw(generator)
    count = context + TARGETS
    shape = Shape(studies, 0, 0, 0, 0, int(draw.whole(1, HYPERPARAMETERS + 1, 1)))
    spaces = draw_spaces(shape, draw)
    points = spaces.configurations(count, 1, draw)
    # As many smooth functions of the configuration as a curve has traits, and its own deviation.
    family = Family.drawn(studies, TRAITS, spaces, draw)
    _, traits = family.values(points.expand(-1, TRAITS, -1, -1), slice(0, TRAITS), draw)
    own = 10 ** draw.uniform(-2, 0, studies, TRAITS, 1)
    traits = traits.clamp(-3, 3) + own * draw.normal(studies, TRAITS, count)
    progress = _reported(studies, count, draw)
    values = _curve_values(traits.double(), progress, draw)
    progress, values = tidy(progress, values)
    curves = Curves(points[:, 0].float(), progress, values)
    return asked_about(spaces.description, curves, context, generator)


# Level, gain, speed, bend, second rise, time of what may happen, its size, whether it happens.
TRAITS = 8


def _reported(studies: int, count: int, draw: Draw) -> Tensor:
    """``B x m x n`` progresses: even steps in most studies, with gaps in some curves."""
    steps = draw.whole(5, REPORTS + 1, studies, 1, 1)
    number = torch.arange(1, REPORTS + 1).view(1, 1, -1)
    even = number / steps
    power = torch.where(draw.chance(0.2, studies, 1, 1), draw.uniform(0.6, 2.0, studies, 1, 1), 1)
    jitter = draw.uniform(-0.4, 0.4, studies, count, REPORTS) / steps
    jitter = jitter * draw.chance(0.15, studies, 1, 1) * (number < steps)
    progress = (even**power + jitter).clamp(1e-3, 1.0)
    gaps = draw.chance(draw.uniform(0, 0.5, studies, count, 1), studies, count, REPORTS)
    gaps = gaps & draw.chance(0.2, studies, count, 1) & (number != steps) & (number > 1)
    return progress.double().masked_fill((number > steps) | gaps, torch.nan)


def _curve_values(traits: Tensor, progress: Tensor, draw: Draw) -> Tensor:
    """``B x m x n`` values of ``B x TRAITS x m`` traits."""
    studies, count, reports = progress.shape
    level, gain, speed, bend, second, when, size, whether = traits.unsqueeze(-1).unbind(1)

    def spread(low: float, high: float) -> Tensor:
        return draw.uniform(low, high, studies, 1, 1)

    def some(share: float) -> Tensor:
        return draw.chance(share, studies, 1, 1)

    tau = 10 ** (spread(-2.2, 0.5) + spread(0.1, 0.5) * speed)
    power = torch.exp(spread(-1.2, 1.0) + spread(0.0, 0.4) * bend)
    rise = _rise(progress, tau, power, draw)
    tau2 = tau * 10 ** spread(0.3, 1.5)
    share = torch.sigmoid(spread(-2, 1) + second) * some(0.4)
    rise = (1 - share) * rise + share * _rise(progress, tau2, power, draw)
    height = torch.exp(spread(-1.0, 0.5) * gain) * torch.where(some(0.1), gain.sign(), 1.0)
    start = spread(0.0, 0.3) * level
    values = start + spread(0, 1.5) * level * rise + height * rise
    # What may happen to a curve: a fall, a jump (a smaller learning rate), or the end of it all.
    begin = torch.sigmoid(spread(-2, 3) + spread(0.2, 1.5) * when)
    after = (progress - begin).clamp_min(0.0)
    happens = whether > spread(-1.0, 2.5)
    fall = torch.exp(spread(-2.5, 1.0) + 0.5 * size) * after ** spread(0.5, 2.0)
    jump = torch.exp(spread(-3, 0) + 0.5 * size) * -torch.expm1(-after / 10 ** spread(-2.5, -0.5))
    values = values + happens * (jump * some(0.2) - fall * some(0.3))
    values = values + _wiggles(progress, draw)
    # A metric with a ceiling, or a floor of chance.
    bent = torch.where(some(0.5), torch.sigmoid(2 * values), torch.tanh(values.clamp_min(0)))
    values = torch.where(some(0.4), 2.0 * bent, values)
    noise = 10 ** spread(-4.5, -0.7) * torch.exp(0.5 * spread(0, 1) * bend)
    values = values + noise * draw.normal(studies, count, reports)
    ends = happens & some(0.15) & (after > 0)
    floor = values[..., :1] - 10 ** spread(-2, 4)
    values = torch.where(ends & some(0.8), floor + noise * values, values)
    values = values.masked_fill(ends & some(0.1), torch.nan)
    return values * 10 ** spread(-3, 3) + 10 ** spread(-3, 2) * draw.normal(studies, 1, 1)


def _rise(progress: Tensor, tau: Tensor, power: Tensor, draw: Draw) -> Tensor:
    """From 0 at the beginning towards 1: a power law, an exponential, or an S."""
    kind = draw.uniform(0, 1, len(progress), 1, 1)
    relative = progress.nan_to_num(0.0) / tau
    law = 1.0 - (1.0 + relative) ** -power
    exponential = -torch.expm1(-(relative**power))
    s_shaped = relative ** (1 + power) / (1.0 + relative ** (1 + power))
    return torch.where(kind < 0.4, law, torch.where(kind < 0.75, exponential, s_shaped))


def _wiggles(progress: Tensor, draw: Draw) -> Tensor:
    """Slow deviations that no formula has: a few waves, in half of the studies."""
    studies, count, _ = progress.shape
    waves = 4
    frequency = 10 ** draw.uniform(-0.5, 1.0, studies, 1, 1, waves)
    phase = draw.uniform(0, 2 * math.pi, studies, count, 1, waves)
    size = 10 ** draw.uniform(-3.5, -0.8, studies, 1, 1, 1) * draw.chance(0.5, studies, 1, 1, 1)
    amplitude = size * draw.normal(studies, count, 1, waves) / frequency
    return (amplitude * torch.sin(2 * math.pi * frequency * progress.unsqueeze(-1) + phase)).sum(
        -1
    )


# ---- recorded curves -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CurveRecord:
    """The curves of one task, to its longest one's end.

    Attributes:
        name: The task's.
        space: Of the configurations.
        description: Of the space.
        points: ``n x d``.
        progress: ``n x s``, NaN at the end of shorter curves.
        values: ``n x s``.
    """

    name: str
    space: Space
    description: Description
    points: Array
    progress: Tensor
    values: Tensor


def read_curves(path: str | Path) -> list[CurveRecord]:
    """The tasks of an archive that have learning curves.

    Raises:
        RecordError: There is none with enough of them.
        ArchiveError: There is no archive.
    """
    records = [record for task in Archive(path) if (record := _record(task)) is not None]
    if not records:
        raise RecordError(
            f"no task in {path} has {LEAST_CURVES} trials with {LEAST_REPORTS} reports each"
        )
    return records


def _record(task: Task) -> CurveRecord | None:
    trials = [trial for trial in task.trials if len(trial.curve) >= LEAST_REPORTS]
    horizon = max((step for trial in trials for step, _ in trial.curve), default=0.0)
    if len(trials) < LEAST_CURVES or not horizon > 0.0:
        return None
    filled = np.full((len(trials), max(len(trial.curve) for trial in trials), 2), np.nan)
    for row, trial in enumerate(trials):
        filled[row, : len(trial.curve)] = trial.curve
    progress, values = tidy(
        torch.from_numpy(filled[..., 0] / horizon), torch.from_numpy(filled[..., 1])
    )
    points = task.space.encode([trial.configuration for trial in trials])
    told = describe(task.space)
    return CurveRecord(task.name, task.space, told, points, progress, values)


def recorded_curves(
    records: Sequence[CurveRecord],
    studies: int,
    context: int,
    rng: np.random.Generator,
    *,
    varied: bool = True,
) -> CurveBatch:
    """A batch of studies, each with curves of one task.

    Args:
        records: Each is drawn as often.
        studies: B.
        context: k; fewer where the smallest task has not so many.
        rng: Of everything.
        varied: Whether names are forgotten, reports left out and noise added, here and there.
    """
    fewest = min(len(record.points) for record in records)
    context = min(context, fewest - TARGETS)
    chosen = [records[i] for i in rng.integers(len(records), size=studies)]
    rows = [rng.permutation(len(record.points))[: context + TARGETS] for record in chosen]
    pairs = list(zip(chosen, rows, strict=True))
    width = max(record.points.shape[1] for record in chosen)
    reports = max(record.progress.shape[1] for record in chosen)
    points = [_widened(torch.from_numpy(record.points[r]).float(), width) for record, r in pairs]
    curves = Curves(
        torch.stack(points),
        torch.stack([_widened(record.progress[r], reports) for record, r in pairs]),
        torch.stack([_widened(record.values[r], reports) for record, r in pairs]),
    )
    descriptions = [record.description for record in chosen]
    if varied:
        unknown = rng.random(studies) < 0.2
        descriptions = [
            anonymous(description, rng) if forgotten else description
            for description, forgotten in zip(descriptions, unknown, strict=True)
        ]
        curves = _varied(curves, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return asked_about(stack(descriptions), curves, context, generator)


def _varied(curves: Curves, rng: np.random.Generator) -> Curves:
    """With gaps in some curves and noise in some studies."""
    shape = curves.progress.shape
    gaps = rng.random(shape) < 0.4 * (rng.random(shape[:2]) < 0.15)[..., None]
    gaps[..., [0, -1]] = False
    unit = np.nanstd(curves.values.numpy(), axis=(1, 2), keepdims=True)
    size = 10 ** rng.uniform(-3, -0.7, (len(unit), 1, 1)) * (rng.random((len(unit), 1, 1)) < 0.15)
    values = curves.values + torch.from_numpy(unit * size * rng.standard_normal(shape))
    progress, values = tidy(curves.progress.masked_fill(torch.from_numpy(gaps), torch.nan), values)
    return Curves(curves.points, progress, values)


def _widened(tensor: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[-1]), value=torch.nan)
