"""A Gaussian process as a surrogate: points in, values out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from botorch.acquisition.analytic import _log_ei_helper
from torch import Tensor

from metahpo.settings import Effort
from metahpo.surrogate.contract import Improvement
from metahpo.surrogate.features import FeatureMap
from metahpo.surrogate.gp.closed_form import ClosedFormGP
from metahpo.surrogate.scores import Warp
from metahpo.tasks.space import Array

MINIMUM_VARIANCE = 1e-12


@dataclass(frozen=True, eq=False)
class GPSurrogate:
    """See ``metahpo.surrogate.contract.Surrogate``.

    Attributes:
        model: Predicts scores from features.
        features: Makes features of points.
        warp: Values to scores.
        log_densities: ``n``, of each observed value given the ones before it.
        effort: How hard its acquisition function is maximised.
        has_unit: Whether the warp's unit is that of the values; else it is made up, and the model
            cannot predict values.
        trust: 1 where it has past tasks for its prior; None without.
        bar: The score to improve on; None for the model's incumbent.
    """

    model: ClosedFormGP
    features: FeatureMap
    warp: Warp
    log_densities: Array
    effort: Effort
    has_unit: bool = True
    trust: float | None = None
    bar: float | None = None

    @property
    def task_weights(self) -> Array:
        """``t``: posterior means of the past tasks' weights."""
        return self.model.task_weights

    def predict(self, points: Array) -> tuple[Array, Array] | None:
        """Means and standard deviations of the values at ``n x d`` points, ``n`` each."""
        if not self.has_unit:
            return None
        with torch.no_grad():
            mean, variance = self.model.mean_and_variance(self.features(torch.as_tensor(points)))
        return self.warp.moments(mean.numpy(), np.sqrt(variance.numpy()))

    def improvement(self, points: Tensor) -> Improvement:
        """Over the incumbent's posterior mean, or ``bar``.

        The logarithm is BoTorch's LogEI (Ament et al. 2023, "Unexpected improvements to expected
        improvement for Bayesian optimization", section 4.1), with the model's moments taken in
        closed form: a posterior object for each evaluation costs several times as much.

        Args:
            points: ``batch_shape x d``.

        Returns:
            ``batch_shape`` each.
        """
        mean, variance = self.model.mean_and_variance(self.features(points))
        deviation = variance.clamp_min(MINIMUM_VARIANCE).sqrt()
        best = self.model.incumbent if self.bar is None else self.bar
        u = (mean - best) / deviation
        log_expected = _log_ei_helper(u) + deviation.log() + float(np.log(self.warp.unit))
        return Improvement(log_expected, torch.special.ndtr(u.detach()))

    def condition_on_pending(self, points: Array) -> GPSurrogate:
        """This surrogate after observing its own mean at ``m x d`` points."""
        if not len(points):
            return self
        return replace(self, model=self.model.condition_on_means(self.features.array(points)))

    def relative_to(self, points: Array) -> GPSurrogate:
        """This surrogate with the largest posterior mean at ``m x d`` points to improve on."""
        with torch.no_grad():
            means, _ = self.model.mean_and_variance(self.features(torch.as_tensor(points)))
        return replace(self, bar=float(means.max()))
