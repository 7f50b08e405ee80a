"""Predictions of learning curves in values, from the trials of a study; the network's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metahpo.surrogate.curves.curve_process import CurveArchitecture, CurveOutput, CurveProcess
from metahpo.surrogate.curves.curve_values import Curves, sorted_reports
from metahpo.surrogate.networks.bars import BarDistribution, check_bars
from metahpo.surrogate.networks.network_file import read_network, write_network
from metahpo.surrogate.networks.space_description import Description, describe
from metahpo.tasks.space import Array, Configuration, Space
from metahpo.tasks.task import Trial
from metahpo.tasks.units import safe_exponent, times_power_of_two

# In the folder ``weights`` next to this file.
SHIPPED = "curves.safetensors"


class CurveError(ValueError):
    """A curve cannot be predicted; the message says why."""


class CurveDistribution:
    """Predictive distributions of values: shifted and scaled bar distributions.

    Args:
        location: ``batch_shape``, in values.
        scale: ``batch_shape``, in values; positive.
        bars: ``batch_shape``, the distributions of (value - location) / scale.
    """

    def __init__(self, location: Tensor, scale: Tensor, bars: BarDistribution) -> None:
        self.location, self.scale, self.bars = location, scale, bars

    @property
    def mean(self) -> Tensor:
        """Means, ``batch_shape``, in values."""
        return self.location + self.scale * self.bars.mean

    @property
    def variance(self) -> Tensor:
        """Variances, ``batch_shape``, in squared values."""
        return self.scale.square() * self.bars.variance

    def log_density(self, values: Tensor) -> Tensor:
        """Return log densities at values, both ``batch_shape``."""
        return self.bars.log_density(self._standard(values)) - self.scale.log()

    def cdf(self, values: Tensor) -> Tensor:
        """Return the probabilities of smaller values, both ``batch_shape``."""
        return self.bars.cdf(self._standard(values))

    def quantile(self, probability: float | Tensor) -> Tensor:
        """Return quantiles, with the shapes of ``BarDistribution.quantile``."""
        return self.location + self.scale * self.bars.quantile(probability)

    def expected_improvement(self, best: float | Tensor) -> Tensor:
        """Return E max(value - best, 0), ``batch_shape``; best is a number or ``batch_shape``."""
        standard = self._standard(torch.as_tensor(best, dtype=self.location.dtype))
        return self.scale * self.bars.expected_improvement(standard)

    def _standard(self, values: Tensor) -> Tensor:
        return (values - self.location) / self.scale


def curve_distribution(network: CurveProcess, output: CurveOutput) -> CurveDistribution:
    """Convert a network's output to values, in float64.

    Args:
        network: The network.
        output: Its output, ``B x (m - k) x r``.

    Returns:
        ``B x (m - k) x r`` distributions.
    """
    predicted = slice(-output.location.shape[1], None)
    last = output.observed.last[:, predicted].unsqueeze(-1)
    unit = output.observed.unit[:, predicted].unsqueeze(-1)
    bars = BarDistribution(output.logits.double(), network.borders, network.tails)
    return CurveDistribution(last + unit * output.location, unit * output.scale, bars)


# ---- predictions for trials ----------------------------------------------------------------


def predict_curve(
    network: CurveProcess,
    space: Space,
    configuration: Configuration,
    curve: Sequence[tuple[float, float]],
    *,
    horizon: float,
    context: Sequence[Trial] = (),
    steps: Sequence[float] | None = None,
) -> CurveDistribution:
    """Predict the later reports of a trial.

    Args:
        network: From ``shipped_network`` or ``load_weights``.
        space: The trials' search space.
        configuration: The trial's configuration.
        curve: Its reports so far, as (step, value); reports without a finite value are ignored.
        horizon: The step at which the training ends; positive, in the unit of the steps.
        context: Other trials of the study, or of past studies in the same space; those without
            a curve are ignored.
        steps: r steps to predict; the horizon by default.

    Returns:
        r distributions, in values.

    Raises:
        CurveError: The curve has no report, the horizon is not positive, or a step lies beyond it.
    """
    reports = np.array([(step, value) for step, value in curve], float).reshape(-1, 2)
    reports = reports[np.isfinite(reports).all(-1)]
    queries = np.array([horizon] if steps is None else list(steps), float)
    _check(reports, queries, horizon)
    others = [trial for trial in context if trial.curve]
    other_reports = [np.array(trial.curve, float).reshape(-1, 2) for trial in others]
    (*other_reports, reports), exponent = _in_safe_unit([*other_reports, reports])
    points = space.encode([*(trial.configuration for trial in others), configuration])
    description = describe(space)
    batched = Description(**{name: part.unsqueeze(0) for name, part in vars(description).items()})
    with torch.no_grad():
        output = network(
            batched,
            curves_from_reports(points, [*other_reports, reports], horizon),
            torch.tensor([reports[:, 0].max() / horizon]),
            torch.from_numpy(queries / horizon).unsqueeze(0),
            len(others),
        )
        predicted = curve_distribution(network, output)
    bars = BarDistribution(predicted.bars.log_masses[0, 0], network.borders, network.tails)
    location, scale = (
        torch.from_numpy(times_power_of_two(part[0, 0].numpy(), exponent))
        for part in (predicted.location, predicted.scale)
    )
    return CurveDistribution(location, scale, bars)


def _in_safe_unit(reports: Sequence[Array]) -> tuple[list[Array], int]:
    """Reports ``n x 2`` of a study's curves with values of a safe size, and the way back.

    See ``metahpo.tasks.units``.
    """
    values = np.concatenate([rows[:, 1] for rows in reports])
    exponent = safe_exponent(values[np.isfinite(values)])
    moved = [
        np.column_stack([rows[:, 0], times_power_of_two(rows[:, 1], -exponent)])
        for rows in reports
    ]
    return moved, exponent


def _check(reports: Array, queries: Array, horizon: float) -> None:
    if not len(reports):
        raise CurveError("the curve has no report with a finite value yet")
    if not horizon > 0.0:
        raise CurveError(f"the horizon must be positive, got {horizon}")
    if not ((queries >= 0.0) & (queries <= horizon)).all() or reports[:, 0].max() > horizon:
        raise CurveError(f"all steps must be between 0 and the horizon, which is {horizon}")


def curves_from_reports(points: Array, reports: Sequence[Array], horizon: float) -> Curves:
    """Convert one study's curves to tensors.

    Args:
        points: ``m x d``.
        reports: For each curve, ``n x 2`` steps and values.
        horizon: The step at progress 1.

    Returns:
        ``1 x m`` curves.
    """
    length = max(len(rows) for rows in reports)
    filled = np.full((len(reports), length, 2), np.nan)
    for place, rows in enumerate(reports):
        filled[place, : len(rows)] = rows
    both = torch.from_numpy(filled)[None]
    progress, values = sorted_reports(both[..., 0] / horizon, both[..., 1])
    return Curves(torch.from_numpy(points).float()[None], progress, values)


# ---- weights -------------------------------------------------------------------------------


def save_weights(network: CurveProcess, path: Path, **metadata: str) -> None:
    """Write weights, sizes and metadata to a safetensors file, atomically."""
    write_network(network, network.architecture, path, **metadata)


def load_weights(path: str | Path) -> CurveProcess:
    """Read a network that ``save_weights`` wrote, in evaluation mode.

    Raises:
        WeightsError: The file does not contain weights for this model.
        OSError: The file does not exist or cannot be read.
    """
    return read_network(path, _built, "metahpo train curves", _check_loaded)


@cache
def shipped_network() -> CurveProcess:
    """Return the network that ships with the package (docs/curves.md)."""
    return load_weights(Path(str(files("metahpo.surrogate.curves") / "weights" / SHIPPED)))


def _check_loaded(network: CurveProcess, metadata: Mapping[str, str]) -> None:
    check_bars(network.borders, network.tails)


def _built(*, dilations: Sequence[int], **sizes: int) -> CurveProcess:
    # JSON turns tuples into lists.
    return CurveProcess(CurveArchitecture(dilations=tuple(dilations), **sizes))
