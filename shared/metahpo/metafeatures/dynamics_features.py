"""Meta-features of the first training steps: of a learning curve, and of gradients.

Notation: s steps; values are losses, smaller is better. Inside, steps and values are scaled to
[0, 1]; t and y stand for these, both `s`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from metahpo.metafeatures.arrays import Array

# Steps of a probe run.
PROBE_STEPS = 50
# First part of the curve, over which the initial slope is measured.
BEGINNING = 0.25
# A plateau begins when no more than this fraction of the improvement is left.
PLATEAU = 0.05
# Values needed to fit the three parameters of a decay.
FEWEST_TO_FIT = 5


def dynamics_metafeatures(
    curve: Sequence[float] | Sequence[tuple[float, float]] | Array | None = None,
    *,
    train: Callable[[], Iterable[float]] | None = None,
    maximise: bool = False,
    gradients: Any = None,
    batch_size: int = 1,
    steps: int = PROBE_STEPS,
) -> dict[str, float]:
    """Return the meta-features of the first training steps.

    Args:
        curve: Losses in the order of the steps, or pairs of step and loss.
        train: Starts a probe run if there is no curve: returns an iterable of losses, for
            instance a generator, of which the first ``steps`` are used.
        maximise: Whether the values are scores to be maximised instead of losses.
        gradients: `k x w`, gradients of k batches at the same parameters; the gradient of a
            batch may also be a list of tensors, as ``[p.grad for p in model.parameters()]``.
        batch_size: Examples in each of these batches.
        steps: Length of the probe run.

    Returns:
        Numbers by name. The names are always the same; NaN for what cannot be computed.
        Slopes, rates and noise are relative to the range of the curve and to its length.

    Raises:
        ValueError: If ``steps`` or ``batch_size`` is below 1.
    """
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps and batch_size must be at least 1, got {steps}, {batch_size}")
    if curve is None and train is not None:
        curve = [float(value) for value in islice(train(), steps)]
    times, values = _points(curve)
    # Overflows give NaN.
    with np.errstate(all="ignore"):
        features = {
            **_shape(times, -values if maximise else values),
            "noise_scale": _noise_scale(gradients, batch_size),
        }
    return {f"dynamics.{name}": _finite(value) for name, value in features.items()}


def _points(curve: Any) -> tuple[Array, Array]:
    """Steps and values, both `s`, finite and in the order of the steps."""
    given = [] if curve is None else [_floats(point) for point in curve]
    lengths = {len(point) for point in given}
    if lengths == {2}:
        table = np.array(given)
    else:
        table = np.array([(i, p[0]) for i, p in enumerate(given) if len(p)]).reshape(-1, 2)
    table = table[np.isfinite(table).all(axis=1)]
    table = table[np.argsort(table[:, 0], kind="stable")]
    return table[:, 0], table[:, 1]


def _floats(point: Any) -> list[float]:
    if hasattr(point, "detach"):
        point = point.detach().cpu()
    try:
        return [float(value) for value in np.atleast_1d(np.asarray(point, dtype=float))]
    except (TypeError, ValueError):
        return [math.nan]


# ---- the curve -----------------------------------------------------------------------------


def _shape(times: Array, values: Array) -> dict[str, float]:
    names: tuple[str, ...] = (
        "initial_slope",
        "convergence_rate",
        "power_law_exponent",
        "power_law_asymptote",
        "power_law_error",
        "noise",
        "plateau",
        "improvement",
        "best_at",
    )
    features: dict[str, float] = dict.fromkeys(names, math.nan)
    features["steps"] = float(len(values)) if len(values) else math.nan
    spread = float(np.ptp(values)) if len(values) else 0.0
    if len(values) < 2 or not 0 < spread < math.inf or np.ptp(times) == 0:
        return features
    t = (times - times[0]) / (times[-1] - times[0])
    y = (values - values.min()) / spread
    return features | {
        "initial_slope": _slope(t, y),
        "convergence_rate": _rate(t, y),
        **_power_law(y),
        "noise": _noise(y),
        "plateau": _plateau(t, y),
        "improvement": float(y[0] - y[-1]),
        "best_at": float(t[np.argmin(y)]),
    }


def _slope(t: Array, y: Array) -> float:
    """Slope of a least-squares line over the beginning."""
    count = max(2, int(np.searchsorted(t, BEGINNING, side="right")))
    centred = t[:count] - t[:count].mean()
    squares = float(centred @ centred)
    return float(centred @ y[:count] / squares) if squares > 0 else math.nan


def _rate(t: Array, y: Array) -> float:
    """Rate b of an exponential decay c + a exp(-b t)."""

    def decay(t: Array, c: float, a: float, b: float) -> Array:
        return c + a * np.exp(-b * t)

    found = _fitted(decay, t, y, (float(y[-1]), float(y[0] - y[-1]), 3.0))
    return math.nan if found is None else float(found[2])


def _power_law(y: Array) -> dict[str, float]:
    """Exponent, asymptote and error of a power law c + a step^-b (Hestness et al. 2017)."""
    step = np.arange(1.0, len(y) + 1.0)

    def law(step: Array, c: float, a: float, b: float) -> Array:
        return c + a * step**-b

    found = _fitted(law, step, y, (float(y[-1]), float(y[0] - y[-1]), 0.5))
    if found is None:
        return {}
    error = float(np.sqrt(np.mean((law(step, *found) - y) ** 2)))
    return {
        "power_law_exponent": float(found[2]),
        "power_law_asymptote": float(found[0]),
        "power_law_error": error,
    }


def _fitted(
    curve: Callable[..., Array], t: Array, y: Array, start: tuple[float, float, float]
) -> Array | None:
    """Offset, amplitude and rate of a decay; None if the fit fails."""
    if len(y) < FEWEST_TO_FIT:
        return None
    bounds = ([-1.0, -2.0, 0.0], [2.0, 5.0, 100.0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            return curve_fit(curve, t, y, p0=start, bounds=bounds, max_nfev=500)[0]
    except (RuntimeError, ValueError):
        return None


def _noise(y: Array) -> float:
    """Deviation from a smooth curve, by second differences (Gasser et al. 1986)."""
    if len(y) < 3:
        return math.nan
    return float(np.sqrt(np.mean(np.diff(y, 2) ** 2) / 6.0))


def _plateau(t: Array, y: Array) -> float:
    """Fraction of the steps, up to the end, with hardly any improvement."""
    best = np.minimum.accumulate(y)
    reached = best <= best[-1] + PLATEAU * (best[0] - best[-1])
    return float(1.0 - t[int(np.argmax(reached))])


# ---- gradients -----------------------------------------------------------------------------


def _noise_scale(gradients: Any, batch_size: int) -> float:
    """Gradient noise scale, in examples (McCandlish et al. 2018, eq. 2.9 and appendix A).

    The trace of the covariance of a single example's gradient, divided by the squared norm of
    the true gradient; unbiased estimates of both from batches of equal size.
    """
    rows = [] if gradients is None else [_flat(batch) for batch in gradients]
    if len(rows) < 2 or len({len(row) for row in rows}) > 1 or not len(rows[0]):
        return math.nan
    table = np.stack(rows)
    table = table[np.isfinite(table).all(axis=1)]
    if len(table) < 2:
        return math.nan
    batch_trace = float(table.var(axis=0, ddof=1).sum())
    squared = float((table.mean(axis=0) ** 2).sum()) - batch_trace / len(table)
    return batch_size * batch_trace / squared if squared > 0 else math.nan


def _flat(batch: Any) -> Array:
    if isinstance(batch, list | tuple):
        parts = [_flat(part) for part in batch if part is not None]
        return np.concatenate(parts) if parts else np.empty(0)
    if hasattr(batch, "detach"):
        batch = batch.detach().cpu()
    return np.asarray(batch, dtype=float).reshape(-1)


def _finite(value: float) -> float:
    return float(value) if math.isfinite(value) else math.nan
