"""A random forest as a surrogate: the worked example of docs/extending.md.

Extremely randomised trees (Geurts et al. 2006) over the study's trials; their spread is the
uncertainty (Hutter et al. 2011, "Sequential model-based optimization for general algorithm
configuration"). What trees over all past tasks predict is one more feature.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from scipy.stats import norm
from sklearn.ensemble import ExtraTreesRegressor
from torch import Tensor

from metahpo.settings import Effort, PolicySettings
from metahpo.surrogate.aligned_history import AlignedHistory
from metahpo.surrogate.contract import Improvement
from metahpo.surrogate.features import FeatureMap
from metahpo.surrogate.scores import own_warp
from metahpo.surrogate.study_arrays import StudyArrays
from metahpo.tasks.space import Array, Space

# Where all trees agree nothing is uncertain; logarithms stay finite.
SMALLEST = 1e-100


@dataclass(frozen=True, eq=False)
class ForestSurrogate:
    """See ``metahpo.surrogate.contract.Surrogate``.

    Attributes:
        features: Makes features of points.
        past: Predicts past tasks' scores from features; None without any.
        points: ``n x d`` trials, and pending ones after them.
        values: ``n``, and the means predicted for pending ones.
        log_densities: ``n``, not known.
        task_weights: ``t``.
        effort: How hard to maximise the improvement.
        bar: The value to improve on; None for the best one.
    """

    features: FeatureMap
    past: ExtraTreesRegressor | None
    points: Array
    values: Array
    log_densities: Array
    task_weights: Array
    effort: Effort
    bar: float | None = None

    @cached_property
    def _forest(self) -> ExtraTreesRegressor:
        return _new_forest().fit(self._inputs(self.points), self.values)

    def _inputs(self, points: Array) -> Array:
        features = self.features.array(points)
        past = [] if self.past is None else [self.past.predict(features)]
        return np.column_stack([features, *past])

    @property
    def trust(self) -> float | None:
        """How much of what the trees explain, they explain by the past tasks."""
        return None if self.past is None else float(self._forest.feature_importances_[-1])

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation over the trees."""
        inputs = self._inputs(points)
        trees = np.stack([tree.predict(inputs) for tree in self._forest.estimators_])
        return trees.mean(axis=0), np.maximum(trees.std(axis=0), SMALLEST)

    def improvement(self, points: Tensor) -> Improvement:
        """Over the best value, or ``bar``, as if predictions were normally distributed."""
        mean, deviation = self.predict(points.detach().reshape(-1, points.shape[-1]).numpy())
        u = (mean - (self.values.max() if self.bar is None else self.bar)) / deviation
        expected = deviation * (u * norm.cdf(u) + norm.pdf(u))
        log_expected, probability = (
            torch.from_numpy(array).reshape(points.shape[:-1])
            for array in (np.log(np.maximum(expected, SMALLEST)), norm.cdf(u))
        )
        return Improvement(log_expected, probability)

    def condition_on_pending(self, points: Array) -> ForestSurrogate:
        """Fitted anew, with pending trials at their predicted means."""
        if not len(points):
            return self
        values = np.concatenate([self.values, self.predict(points)[0]])
        return replace(self, points=np.concatenate([self.points, points]), values=values)

    def relative_to(self, points: Array) -> ForestSurrogate:
        """With the best prediction at some points to improve on."""
        return replace(self, bar=float(self.predict(points)[0].max()))


class ForestFamily:
    """See ``metahpo.surrogate.contract.SurrogateFamily``."""

    def is_informed(self, space: Space, settings: PolicySettings) -> bool:
        """Never: there are no trees without trials."""
        return False

    def fit(
        self, study: StudyArrays, history: AlignedHistory, settings: PolicySettings
    ) -> ForestSurrogate:
        """Trees over the study's trials, and over past tasks where these are to be read."""
        past, weights = None, np.empty(0)
        if history.tasks and settings.transfer:
            past = history.remember("past forest", None, lambda: _past_forest(history))
            weights = history.relevance
        return ForestSurrogate(
            history.features,
            past,
            study.points,
            study.values,
            np.full(len(study.values), np.nan),
            weights,
            settings.search.effort,
        )


def _past_forest(history: AlignedHistory) -> ExtraTreesRegressor:
    features = [history.features.of_task(task) for task in history.tasks]
    scores = [own_warp(task.values).scores(task.values) for task in history.tasks]
    weights = np.repeat(history.relevance, [len(task.values) for task in history.tasks])
    return _new_forest().fit(np.concatenate(features), np.concatenate(scores), weights)


def _new_forest() -> ExtraTreesRegressor:
    return ExtraTreesRegressor(n_estimators=50, random_state=0)
