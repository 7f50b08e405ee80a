"""Values of a task with constraints: any infeasible trial is worth less than any feasible one.

A trial's violation is the sum of what its constraints exceed zero by, 0 for a feasible trial.
Whatever reads a task reads *effective* values: those of feasible trials, and below the worst of
them those of the infeasible ones, in the order of their violations alone. How far below is
bounded, in units of the feasible values, so that infeasible trials flatten nothing:

    effective = worst feasible - unit (MARGIN + DEPTH v / (v + typical violation))

Notation: n observed trials of one task.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from metahpo.tasks.space import Array

# Gap between the worst feasible trial and a trial that is infeasible by next to nothing, in units.
# Five times the gap and four times the depth were as often feasible and found worse values: the
# deeper the infeasible region, the harder it is to search beyond it.
MARGIN = 0.05
# How much further below an infinite violation lies, in units.
DEPTH = 0.25
# Tukey's outer fence, in interquartile ranges below the lower quartile: outliers lie beyond it.
FENCE = 3.0
# Differences of at most this share of the values themselves drown in rounding.
FINEST = 1e-9


def total_violation(constraints: Iterable[float]) -> float:
    """Return the sum of the positive constraints; 0 if the trial is feasible.

    A constraint holds where it is at most 0, as in Optuna, and sums of violations order
    infeasible trials as Optuna's samplers order them: several constraints should be expressed in
    comparable units.

    Args:
        constraints: Values of a trial's constraints; NaN is a violation of unknown size, and
            counts as an infinite one.
    """
    return sum((_violation(float(c)) for c in constraints), 0.0)


def _violation(constraint: float) -> float:
    return math.inf if math.isnan(constraint) else max(constraint, 0.0)


def effective_values(values: Array, violations: Array) -> Array:
    """Return the values of a task's trials with infeasible ones below all feasible ones.

    Without a feasible trial the violations alone order the trials. Feasible outliers, beyond
    Tukey's outer fence (Tukey 1977), are moved closer, in their order: otherwise one diverged
    training would take the infeasible trials with it, and flatten all the others.

    Args:
        values: ``n`` finite values, larger is better.
        violations: ``n``, 0 where feasible, NaN and infinity allowed.

    Returns:
        ``n`` finite values; the given ones if all trials are feasible. Units are rounded to
        powers of two, so that values change little from trial to trial, and fits to former trials
        can be kept.
    """
    feasible = violations <= 0.0
    if feasible.all():
        return values
    kept = values[feasible]
    unit = _unit(values, kept)
    effective = values.astype(float)
    effective[feasible] = kept = _without_outliers(kept, unit)
    floor = float(kept.min() if len(kept) else values.min())
    visible = max(unit, FINEST * abs(floor))
    effective[~feasible] = floor - visible * (MARGIN + DEPTH * _shares(violations[~feasible]))
    return effective


def _unit(values: Array, feasible: Array) -> float:
    """Return from the median to the best of the feasible values, or what comes next to it."""
    for some in (feasible, values):
        if not len(some):
            continue
        best, median = float(some.max()), float(np.median(some))
        for spread, size in ((best - median, max(abs(best), abs(median))), _span(some)):
            if spread > FINEST * size:
                return _power_of_two(spread)
    return _power_of_two(float(np.abs(values).max())) if values.any() else 1.0


def _span(values: Array) -> tuple[float, float]:
    """Return the distance between the least and the greatest value, and the size of these."""
    return float(np.ptp(values)), float(np.abs(values).max())


def _without_outliers(feasible: Array, unit: float) -> Array:
    if not len(feasible):
        return feasible
    lower, upper = np.quantile(feasible, [0.25, 0.75])
    # Powers of two and their multiples: a fence that moved with each trial would change all
    # outliers, and no fit to former trials could be kept.
    range_ = _power_of_two(max(upper - lower, unit))
    fence = range_ * (math.floor(lower / range_) - FENCE)
    beyond = np.maximum(fence - feasible, 0.0)
    return np.maximum(feasible, fence) - unit * (beyond / (beyond + unit))


def _shares(violations: Array) -> Array:
    """Return violations in (0, 1]: 1/2 for a typical one, 1 for an infinite one."""
    known = violations[np.isfinite(violations)]
    typical = _power_of_two(float(np.quantile(known, 0.5, method="lower"))) if len(known) else 1.0
    with np.errstate(over="ignore"):  # of no size beside the typical one
        return 1.0 / (1.0 + typical / np.nan_to_num(violations, nan=np.inf, posinf=np.inf))


def _power_of_two(positive: float) -> float:
    return math.ldexp(0.5, math.frexp(positive)[1])
