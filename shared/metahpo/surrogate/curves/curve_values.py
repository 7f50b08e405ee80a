"""Learning curves as inputs of the network: progress and values in relative units.

All values are relative, so that predictions are equivariant to shifts and changes of unit. There
are two units: the study's, from all known values of its curves (``standardise.own_scale``, which
uses the upper half and so ignores diverged curves), and the curve's own, its recent movement.
Differences far beyond the study's unit are clipped, so that a loss of 1e30 is merely a bad one.

Notation: B studies of m curves with at most n reports; r query progresses; progress is the share
of the whole training, in [0, 1], NaN for padding and for reports without a finite value.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metahpo.surrogate.standardise import LARGEST_SCORE, own_scale
from metahpo.tasks.units import LARGEST_VALUE

# Decay length, in progress, of the weights of past reports in a curve's own unit.
RECENT = 0.2
# Smallest own unit, in units of the study.
MIN_UNIT = 1e-3
# Progresses that differ by less are considered equal.
TOLERANCE = 1e-6


class Curves(NamedTuple):
    """Curves of B studies.

    Attributes:
        points: ``B x m x d`` configurations, NaN where inactive.
        progress: ``B x m x n``, ascending, NaN for padding at the end.
        values: ``B x m x n``, float64, NaN for padding.
    """

    points: Tensor
    progress: Tensor
    values: Tensor


class ObservedCurves(NamedTuple):
    """Curves up to some progress, in relative units.

    Attributes:
        last: ``B x m``, last values.
        unit: ``B x m``, own units of the curves, in values.
        log_ratio: ``B x m``, logarithms of the own units in units of the study.
        level: ``B x m``, last values relative to the study's centre, in units of the study.
        reports: ``B x m``, numbers of reports so far; a curve without any is to be ignored.
        progress: ``B x m x n``, NaN for padding and later reports.
        changes: ``B x m x n x 2``, differences from the last value: in units of the study, and the
            inverse hyperbolic sine of those in the own unit; 0 where progress is NaN.
    """

    last: Tensor
    unit: Tensor
    log_ratio: Tensor
    level: Tensor
    reports: Tensor
    progress: Tensor
    changes: Tensor

    def relative(self, values: Tensor) -> Tensor:
        """Return clipped differences of ``B x m x r`` values from the last ones, in own units."""
        bound = LARGEST_SCORE * (-self.log_ratio).exp().unsqueeze(-1)
        changes = (values - self.last.unsqueeze(-1)) / self.unit.unsqueeze(-1)
        return torch.maximum(torch.minimum(changes, bound), -bound).float()


def sorted_reports(progress: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Sort reports by progress and drop those without a finite value.

    Args:
        progress: ``... x n``.
        values: ``... x n``.

    Returns:
        Progress and values in float64, padded with NaN at the end; values are clipped to
        ``LARGEST_VALUE``.
    """
    progress, values = progress.double(), values.double()
    usable = progress.isfinite() & values.isfinite()
    # NaN is sorted last.
    ordered, rows = progress.masked_fill(~usable, torch.nan).sort(stable=True, dim=-1)
    values = values.masked_fill(~usable, torch.nan).clamp(-LARGEST_VALUE, LARGEST_VALUE)
    return ordered, values.gather(-1, rows)


def interpolated(progress: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """Interpolate linearly between reports; NaN outside the range of a curve's reports.

    Args:
        progress: ``... x n`` from ``sorted_reports``.
        values: ``... x n``.
        at: ``... x r`` query progresses.

    Returns:
        ``... x r``.
    """
    reported = progress.isfinite()
    last = (reported.sum(-1, keepdim=True) - 1).clamp_min(0)
    filled = progress.masked_fill(~reported, torch.inf).contiguous()
    at = at.to(filled.dtype)
    right = torch.searchsorted(filled, (at - TOLERANCE).contiguous()).minimum(last)
    left = (right - 1).clamp_min(0)
    start, end = progress.gather(-1, left), progress.gather(-1, right)
    share = ((at - start) / (end - start).clamp_min(TOLERANCE)).clamp(0.0, 1.0)
    share = torch.where(right == left, 0.0, share)
    between = torch.lerp(values.gather(-1, left), values.gather(-1, right), share)
    inside = (at >= progress[..., :1] - TOLERANCE) & (at <= progress.gather(-1, last) + TOLERANCE)
    return torch.where(inside, between, torch.nan)


def observed_until(curves: Curves, now: Tensor, context: int) -> ObservedCurves:
    """Cut curves off at some progress and express them in relative units.

    Args:
        curves: B studies of m curves.
        now: ``B``, the progress up to which all curves are observed.
        context: Number of context curves, which come first. Their full length determines the
            study's unit; without any, each curve counts as a study of its own.
    """
    progress, values = curves.progress, curves.values
    observed = progress <= now[:, None, None] + TOLERANCE
    count = observed.sum(-1)
    last = values.gather(-1, (count - 1).clamp_min(0).unsqueeze(-1)).squeeze(-1)
    # A curve without a report so far is ignored by its count; its NaN must not spread.
    last = torch.where(count > 0, last, 0.0)
    reference = values.masked_fill(~observed, torch.nan)
    if context:
        reference = curves.values[:, :context].flatten(1).unsqueeze(1)
        reference = reference.expand(-1, values.shape[1], -1)
    centre, study_unit = _centre_and_unit(reference)
    changes = (values - last.unsqueeze(-1)) / study_unit.unsqueeze(-1)
    changes = changes.masked_fill(~observed, 0.0).clamp(-LARGEST_SCORE, LARGEST_SCORE)
    ratio = _recent_movement(changes, progress, now, observed)
    level = ((last - centre) / study_unit).clamp(-LARGEST_SCORE, LARGEST_SCORE)
    own_changes = torch.asinh(changes / ratio.unsqueeze(-1))
    return ObservedCurves(
        last=last,
        unit=study_unit * ratio,
        log_ratio=ratio.log().float(),
        level=level.float(),
        reports=count,
        progress=progress.masked_fill(~observed, torch.nan).float(),
        changes=torch.stack([changes, own_changes], -1).float(),
    )


def _recent_movement(changes: Tensor, progress: Tensor, now: Tensor, observed: Tensor) -> Tensor:
    """Return the weighted root mean square of recent changes, in units of the study: ``B x m``."""
    age = (now[:, None, None] - progress).masked_fill(~observed, torch.inf)
    weights = torch.exp(-age / RECENT)
    square = (weights * changes.square()).sum(-1) / weights.sum(-1).clamp_min(1e-12)
    # A single report contains no movement.
    return torch.where(observed.sum(-1) > 1, square.sqrt().clamp_min(MIN_UNIT), 1.0)


def _centre_and_unit(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return centre and unit of ``... x n`` values, padded with NaN; 0 and 1 without values."""
    empty = values.isnan().all(-1, keepdim=True)
    scale = own_scale(torch.where(empty, 0.0, values))
    low = values.nan_to_num(torch.inf).amin(-1)
    high = values.nan_to_num(-torch.inf).amax(-1)
    # If all values agree, their magnitude is the only unit available.
    size = torch.where(scale.centre.abs() > 0.0, scale.centre.abs(), 1.0)
    return scale.centre, torch.where(low < high, scale.unit, size)
