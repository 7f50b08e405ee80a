"""Learning curves as a neural process sees them: in units that the curves themselves give.

All of it is relative, so that predictions follow their curves through any shift and any change
of unit. Two units: the study's, from all that is known of its curves (``standardise.own_scale``,
whose upper half sets the unit: a curve that diverged does not), and the curve's own, by how much
it moved of late. What lies far beyond the study's unit is cut off, so that a loss of 1e30 is
no more than a bad one.

Notation: B studies of m curves with n reports at most; progress from 0 to 1 is a share of the
whole training, NaN where a curve has fewer reports or reported no finite number.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metahpo.surrogate.standardise import LARGEST_SCORE, own_scale
from metahpo.tasks.task import LARGEST_VALUE

# Reports that lie so far back count by exp(-1) in a curve's own unit.
RECENT = 0.2
# The least own unit, in units of the study.
LEAST_UNIT = 1e-3
# Two progresses that agree but for rounding.
SAME = 1e-6


class Curves(NamedTuple):
    """Curves of B studies.

    Attributes:
        points: ``B x m x d`` configurations, NaN where inactive.
        progress: ``B x m x n``, ascending, NaN at the end where there is no report.
        values: ``B x m x n``, float64, NaN where there is no report.
    """

    points: Tensor
    progress: Tensor
    values: Tensor


class Seen(NamedTuple):
    """What has been reported up to a progress, in relative units; ``B x m`` but for the last two.

    Attributes:
        last: The last value.
        unit: The curve's own unit, in values.
        ratio: Logarithm of the own unit in units of the study.
        level: How far the last value lies above the study's centre, in its units.
        reports: How many so far; a curve of none is no use.
        progress: ``B x m x n``, NaN where there is no report so far.
        moves: ``B x m x n x 2``, differences from the last value in units of the study, and the
            inverse hyperbolic sine of those in the own unit; 0 where there is no report.
    """

    last: Tensor
    unit: Tensor
    ratio: Tensor
    level: Tensor
    reports: Tensor
    progress: Tensor
    moves: Tensor

    def relative(self, values: Tensor) -> Tensor:
        """Differences of ``B x m x r`` values from the last ones, in own units, cut off."""
        most = LARGEST_SCORE * (-self.ratio).exp().unsqueeze(-1)
        moved = (values - self.last.unsqueeze(-1)) / self.unit.unsqueeze(-1)
        return torch.maximum(torch.minimum(moved, most), -most).float()


def tidy(progress: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Reports in the order of their progress, those without a finite value left out.

    Args:
        progress: ``... x n``.
        values: ``... x n``.

    Returns:
        Both in float64, NaN at the end of a curve that has fewer reports; no value is beyond
        ``LARGEST_VALUE``.
    """
    progress, values = progress.double(), values.double()
    usable = progress.isfinite() & values.isfinite()
    # NaN is sorted last.
    ordered, rows = progress.masked_fill(~usable, torch.nan).sort(stable=True, dim=-1)
    values = values.masked_fill(~usable, torch.nan).clamp(-LARGEST_VALUE, LARGEST_VALUE)
    return ordered, values.gather(-1, rows)


def at_progress(progress: Tensor, values: Tensor, asked: Tensor) -> Tensor:
    """Values between reports, linearly; NaN before a curve's first report and after its last.

    Args:
        progress: ``... x n`` from ``tidy``.
        values: ``... x n``.
        asked: ``... x r``.

    Returns:
        ``... x r``.
    """
    known = progress.isfinite()
    last = (known.sum(-1, keepdim=True) - 1).clamp_min(0)
    filled = progress.masked_fill(~known, torch.inf).contiguous()
    asked = asked.to(filled.dtype)
    right = torch.searchsorted(filled, (asked - SAME).contiguous()).minimum(last)
    left = (right - 1).clamp_min(0)
    start, end = progress.gather(-1, left), progress.gather(-1, right)
    share = ((asked - start) / (end - start).clamp_min(SAME)).clamp(0.0, 1.0)
    share = torch.where(right == left, 0.0, share)
    between = torch.lerp(values.gather(-1, left), values.gather(-1, right), share)
    inside = (asked >= progress[..., :1] - SAME) & (asked <= progress.gather(-1, last) + SAME)
    return torch.where(inside, between, torch.nan)


def seen_until(curves: Curves, now: Tensor, context: int) -> Seen:
    """The curves up to a progress; of the context, the rest gives the study's unit.

    Args:
        curves: B studies of m curves.
        now: B, the progress up to which all are seen.
        context: So many of the curves, the first ones, are known as a whole. Without any, each
            curve is a study of its own.
    """
    progress, values = curves.progress, curves.values
    so_far = progress <= now[:, None, None] + SAME
    count = so_far.sum(-1)
    last = values.gather(-1, (count - 1).clamp_min(0).unsqueeze(-1)).squeeze(-1)
    # A curve without a report so far is left out by its count; it must not spoil the others.
    last = torch.where(count > 0, last, 0.0)
    told = values.masked_fill(~so_far, torch.nan)
    if context:
        told = curves.values[:, :context].flatten(1).unsqueeze(1).expand(-1, values.shape[1], -1)
    centre, study_unit = _scale(told)
    moved = ((values - last.unsqueeze(-1)) / study_unit.unsqueeze(-1)).masked_fill(~so_far, 0.0)
    moved = moved.clamp(-LARGEST_SCORE, LARGEST_SCORE)
    age = (now[:, None, None] - progress).masked_fill(~so_far, torch.inf)
    weights = torch.exp(-age / RECENT)
    square = (weights * moved.square()).sum(-1) / weights.sum(-1).clamp_min(1e-12)
    ratio = square.sqrt().clamp_min(LEAST_UNIT)
    # One report does not tell by how much a curve moves.
    ratio = torch.where(count > 1, ratio, 1.0)
    local = torch.asinh(moved / ratio.unsqueeze(-1))
    level = ((last - centre) / study_unit).clamp(-LARGEST_SCORE, LARGEST_SCORE)
    return Seen(
        last=last,
        unit=study_unit * ratio,
        ratio=ratio.log().float(),
        level=level.float(),
        reports=count,
        progress=progress.masked_fill(~so_far, torch.nan).float(),
        moves=torch.stack([moved, local], -1).float(),
    )


def _scale(values: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and unit of ``... x n`` values, NaN where there are fewer; 0 and 1 where none."""
    nothing = values.isnan().all(-1, keepdim=True)
    scale = own_scale(torch.where(nothing, 0.0, values))
    low = values.nan_to_num(torch.inf).amin(-1)
    high = values.nan_to_num(-torch.inf).amax(-1)
    # Where all agree, their size is the only unit there is.
    size = torch.where(scale.centre.abs() > 0.0, scale.centre.abs(), 1.0)
    return scale.centre, torch.where(low < high, scale.unit, size)
