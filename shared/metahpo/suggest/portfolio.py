"""Few configurations that together do well over all past tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from metahpo.settings import PortfolioSettings
from metahpo.surrogate.features import FeatureMap
from metahpo.tasks.alignment import AlignedTask
from metahpo.tasks.space import Array


class CandidateScorer:
    """How well configurations are expected to do on each past task.

    Predicted by extremely randomised trees (Geurts et al. 2006), which stay within what was
    observed. Among the configurations that past tasks tried they choose better ones than Gaussian
    processes do, whose largest prediction is often their largest error.

    Args:
        tasks: ``t`` past tasks, aligned and thinned; at least one.
        features: Of the space that the tasks are aligned to.
        settings: How many trees, and the worst score.
        seed: Of the trees.
    """

    def __init__(
        self,
        tasks: Sequence[AlignedTask],
        features: FeatureMap,
        settings: PortfolioSettings,
        *,
        seed: int = 0,
    ) -> None:
        self._features = features
        count = max(settings.trees_per_task, settings.trees // len(tasks))
        self._forests = [
            ExtraTreesRegressor(count, random_state=seed).fit(
                features.of_task(task), _median_to_best(task.values, settings.worst_score)
            )
            for task in tasks
        ]

    def __call__(self, points: Array) -> Array:
        """Scores of ``n x d`` candidates.

        Returns:
            ``n x t``: 0 for a past task's median value, 1 for its best, nothing below
            ``settings.worst_score``.
        """
        X = self._features.array(points)
        return np.stack([forest.predict(X) for forest in self._forests], axis=1)


def _median_to_best(values: Array, worst: float) -> Array:
    """0 for the median, 1 for the best, floored; nothing but 0 and ``worst`` where they agree."""
    median, best = float(np.median(values)), float(values.max())
    if best == median:
        return np.where(values < median, worst, 0.0)
    # In parts of the distance: that of huge values would overflow.
    span = best / 2.0 - median / 2.0
    return np.maximum((values / 2.0 - median / 2.0) / span, worst)


def greedy_portfolio(
    scores: Array,
    weights: Array,
    size: int,
    *,
    features: Array | None = None,
    apart: float = 0.0,
) -> list[int]:
    """Candidates chosen one by one for the best mean, over tasks, of the best score so far.

    The first is the best on average; each next one covers the tasks that the earlier ones
    serve badly. The objective is submodular, so that, for scores that are not negative, the
    greedy choice is within 1 - 1/e of the best portfolio of its size (Wistuba et al. 2015,
    "Sequential model-free hyperparameter tuning").

    Args:
        scores: ``n x t``, of n candidates on t past tasks, on comparable scales.
        weights: ``t``, how much each past task matters.
        size: How many candidates to choose; fewer where no others are left.
        features: ``n x p``, in which distances between candidates are measured.
        apart: Candidates no farther than this from a chosen one are left out: what nearly repeats
            a trial is no second opinion.

    Returns:
        Indices of the candidates, in the order of the choice.
    """
    best = np.full(scores.shape[1], -np.inf)
    chosen: list[int] = []
    left = np.ones(len(scores), dtype=bool)
    while len(chosen) < size and left.any():
        means = np.where(left, np.maximum(scores, best) @ weights, -np.inf)
        chosen.append(int(np.argmax(means)))
        best = np.maximum(best, scores[chosen[-1]])
        left[chosen[-1]] = False
        if features is not None:
            left &= np.linalg.norm(features - features[chosen[-1]], axis=1) > apart
    return chosen
