"""The network as a surrogate: points in, values out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from metahpo.settings import Effort, SearchSettings
from metahpo.surrogate.contract import Improvement
from metahpo.surrogate.features import FeatureMap
from metahpo.surrogate.neural.neural_model import NeuralModel
from metahpo.tasks.space import Array

# Bars far below the incumbent give no improvement at all; its logarithm would have no gradient.
LEAST_IMPROVEMENT = 1e-40


# Numbers of a block of differences between points and trials: 32 MiB.
BLOCK = 2**22


@dataclass(frozen=True, eq=False)
class NeuralSurrogate:
    """See ``metahpo.surrogate.contract.Surrogate``.

    Attributes:
        model: Predicts scores from points.
        features: Of the study's points, in which distances to trials are measured.
        log_densities: ``n``, of each observed value given the ones before it.
        task_weights: ``t``: a network attends to all past tasks at once and has no weights to
            show, so these are the prior ones.
        settings: How points near a trial are discounted, and the effort.
        bar: The score to improve on; None for the best one observed.
    """

    model: NeuralModel
    features: FeatureMap
    log_densities: Array
    task_weights: Array
    settings: SearchSettings
    bar: float | None = None

    @property
    def effort(self) -> Effort:
        """That for networks."""
        return self.settings.network_effort

    @property
    def trust(self) -> float | None:
        """All of it, where past tasks are in the context."""
        return None if self.model.past is None else 1.0

    def predict(self, points: Array) -> tuple[Array, Array] | None:
        """Means and standard deviations of the values at ``n x d`` points, ``n`` each."""
        if not self.model.has_unit:
            return None
        with torch.no_grad():
            predictive = self.model.predictive(torch.as_tensor(points))
        deviation = np.sqrt(predictive.variance.numpy())
        return self.model.scale.warp.moments(predictive.mean.numpy(), deviation)

    def improvement(self, points: Tensor) -> Improvement:
        """Over the best score, or ``bar``, in closed form from the distribution's bars.

        The network predicts what would be observed and stays unsure even of what it has seen, so
        that the improvement alone would keep suggesting the incumbent. Within ``settings.near`` of
        a trial it is multiplied by how much of the unknown is left there in a smooth function,
        1 - exp(-r^2 / 2).

        Args:
            points: ``batch_shape x d``.

        Returns:
            ``batch_shape`` each.
        """
        predictive = self.model.predictive(points)
        best = self.model.incumbent if self.bar is None else self.bar
        expected = predictive.expected_improvement(best).clamp_min(LEAST_IMPROVEMENT)
        log_expected = expected.log() + self._log_novelty(points) + self._log_unit
        with torch.no_grad():
            below = predictive.cdf(torch.as_tensor(best, dtype=expected.dtype))
        return Improvement(log_expected, (1.0 - below).clamp(0.0, 1.0))  # rounding

    @property
    def _log_unit(self) -> float:
        return float(np.log(self.model.scale.warp.unit))

    @cached_property
    def _seen(self) -> Tensor:
        """``n x p`` features of the trials, pending ones among them."""
        return self.features(self.model.points.double())

    def _log_novelty(self, points: Tensor) -> Tensor:
        """``batch_shape``: 0 far from all trials, very negative at one."""
        seen = self._seen
        if not len(seen):
            return torch.zeros(points.shape[:-1], dtype=torch.float64)
        distances = _nearest(self.features(points), seen)
        new = -torch.expm1(-distances / (2.0 * self.settings.near**2))
        return new.clamp_min(self.settings.least_new).log()

    def condition_on_pending(self, points: Array) -> NeuralSurrogate:
        """This surrogate after observing its own mean at ``m x d`` points."""
        if not len(points):
            return self
        return replace(self, model=self.model.condition_on_means(torch.as_tensor(points)))

    def relative_to(self, points: Array) -> NeuralSurrogate:
        """This surrogate with the largest mean score at ``m x d`` points to improve on."""
        with torch.no_grad():
            means = self.model.predictive(torch.as_tensor(points)).mean
        return replace(self, bar=float(means.max()))


def _nearest(features: Tensor, seen: Tensor) -> Tensor:
    """Squared distances of ``batch_shape x p`` features to the nearest of ``n x p`` others."""
    blocks = features.flatten(0, -2).split(max(1, BLOCK // seen.numel()))
    nearest = [(block.unsqueeze(-2) - seen).square().sum(-1).amin(-1) for block in blocks]
    return torch.cat(nearest).view(features.shape[:-1])
