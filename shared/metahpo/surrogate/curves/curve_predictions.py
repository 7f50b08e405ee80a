"""Learning curves predicted in values, from the trials of a study; the network's weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metahpo.surrogate.curves.curve_process import Answer, CurveArchitecture, CurveProcess
from metahpo.surrogate.curves.curve_values import Curves, tidy
from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.surrogate.networks.network_file import read_network, write_network
from metahpo.surrogate.networks.space_description import Description, describe
from metahpo.tasks.space import Array, Configuration, Space
from metahpo.tasks.task import Trial

# Within the folder ``weights`` beside this file.
SHIPPED = "curves.safetensors"


class CurveError(ValueError):
    """A curve that nothing can be predicted from; the message says why."""


class CurveDistribution:
    """Predictions of values: a bar distribution, moved and stretched.

    Args:
        location: ``batch_shape``, in values.
        scale: ``batch_shape``, in values; positive.
        bars: ``batch_shape``, of the values less location over scale.
    """

    def __init__(self, location: Tensor, scale: Tensor, bars: BarDistribution) -> None:
        self.location, self.scale, self.bars = location, scale, bars

    @property
    def mean(self) -> Tensor:
        """``batch_shape``."""
        return self.location + self.scale * self.bars.mean

    @property
    def variance(self) -> Tensor:
        """``batch_shape``."""
        return self.scale.square() * self.bars.variance

    def log_density(self, values: Tensor) -> Tensor:
        """``batch_shape`` logarithms of the densities at ``batch_shape`` values."""
        return self.bars.log_density(self._standard(values)) - self.scale.log()

    def cdf(self, values: Tensor) -> Tensor:
        """``batch_shape`` probabilities of smaller values than ``batch_shape`` ones."""
        return self.bars.cdf(self._standard(values))

    def quantile(self, probability: float | Tensor) -> Tensor:
        """The values below which so much of the mass lies, shaped as of ``BarDistribution``."""
        return self.location + self.scale * self.bars.quantile(probability)

    def expected_improvement(self, best: float | Tensor) -> Tensor:
        """``batch_shape``: E max(value - best, 0), best a number or ``batch_shape``."""
        standard = self._standard(torch.as_tensor(best, dtype=self.location.dtype))
        return self.scale * self.bars.expected_improvement(standard)

    def _standard(self, values: Tensor) -> Tensor:
        return (values - self.location) / self.scale


def distribution(network: CurveProcess, answer: Answer) -> CurveDistribution:
    """What a network answered, in values and float64.

    Args:
        network: That answered.
        answer: ``B x (m - k) x r``.

    Returns:
        ``B x (m - k) x r``.
    """
    asked = slice(-answer.location.shape[1], None)
    last = answer.seen.last[:, asked].unsqueeze(-1)
    unit = answer.seen.unit[:, asked].unsqueeze(-1)
    bars = BarDistribution(answer.logits.double(), network.borders, network.tails)
    return CurveDistribution(last + unit * answer.location, unit * answer.scale, bars)


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
    """What a trial will report, given what it has reported.

    Args:
        network: From ``shipped_network`` or ``load_weights``.
        space: Of the trials.
        configuration: The trial's.
        curve: Its reports so far as (step, value); those without a finite value are passed over.
        horizon: The step at which a training ends; positive, in the unit of the steps.
        context: Other trials of the study, or of past ones in the same space, with curves.
        steps: r steps asked about; the horizon if not given.

    Returns:
        r distributions, of values.

    Raises:
        CurveError: The curve has no report, the horizon is not positive, or a step lies beyond.
    """
    reports = np.array([(step, value) for step, value in curve], float).reshape(-1, 2)
    reports = reports[np.isfinite(reports).all(-1)]
    if not len(reports):
        raise CurveError("the curve has no report with a finite value yet")
    asked = np.array([horizon] if steps is None else list(steps), float)
    if not horizon > 0.0:
        raise CurveError(f"the horizon must be positive, not {horizon}")
    if not ((asked >= 0.0) & (asked <= horizon)).all() or reports[:, 0].max() > horizon:
        raise CurveError(f"all steps must lie between 0 and the horizon, {horizon}")
    others = [trial for trial in context if trial.curve]
    known = [np.array(trial.curve, float).reshape(-1, 2) for trial in others]
    points = space.encode([*(trial.configuration for trial in others), configuration])
    curves = curves_of(points, [*known, reports], horizon)
    description = describe(space)
    batched = Description(**{name: part.unsqueeze(0) for name, part in vars(description).items()})
    with torch.no_grad():
        answer = network(
            batched,
            curves,
            torch.tensor([reports[:, 0].max() / horizon]),
            torch.from_numpy(asked / horizon).unsqueeze(0),
            len(others),
        )
        told = distribution(network, answer)
    bars = BarDistribution(told.bars.log_masses[0, 0], network.borders, network.tails)
    return CurveDistribution(told.location[0, 0], told.scale[0, 0], bars)


def curves_of(points: Array, reports: Sequence[Array], horizon: float) -> Curves:
    """One study's curves as tensors.

    Args:
        points: ``m x d``.
        reports: For each curve, n x 2 steps and values.
        horizon: The step of progress 1.

    Returns:
        ``1 x m``.
    """
    most = max(len(rows) for rows in reports)
    filled = np.full((len(reports), most, 2), np.nan)
    for place, rows in enumerate(reports):
        filled[place, : len(rows)] = rows
    both = torch.from_numpy(filled)[None]
    progress, values = tidy(both[..., 0] / horizon, both[..., 1])
    return Curves(torch.from_numpy(points).float()[None], progress, values)


# ---- weights -------------------------------------------------------------------------------


def save_weights(network: CurveProcess, path: Path, **metadata: str) -> None:
    """Writes weights, sizes and what else is to be known of them as a safetensors file."""
    write_network(network, network.architecture, path, **metadata)


def load_weights(path: str | Path) -> CurveProcess:
    """The network that ``save_weights`` wrote, ready to predict.

    Raises:
        WeightsError: The file is none of ours.
        OSError: It cannot be read.
    """
    return read_network(path, _built, "metahpo train curves")


@cache
def shipped_network() -> CurveProcess:
    """The network that comes with the package; docs/curves.md says what it learned from."""
    return load_weights(Path(str(files("metahpo.surrogate.curves") / "weights" / SHIPPED)))


def _built(*, dilations: Sequence[int], **sizes: int) -> CurveProcess:
    # JSON knows no tuples.
    return CurveProcess(CurveArchitecture(dilations=tuple(dilations), **sizes))
