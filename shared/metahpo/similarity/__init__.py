"""Weights of past tasks: which of them resemble the present one, and by how much.

``similarity`` holds the contract; ``kglasso``, ``neighbours`` and ``learned_metric`` implement
it. ``relevance`` weighs past tasks before the present one has trials, ``ranking`` compares how
past tasks rank configurations. Public: the names below. Add a similarity as a file of its own and
a line in ``METHODS`` of ``metahpo.recommendation.recommend``.
"""

from metahpo.similarity.kglasso import KGLasso
from metahpo.similarity.learned_metric import LearnedMetric
from metahpo.similarity.metafeature_scaling import Standardiser
from metahpo.similarity.neighbours import Distance, GaussianKernel, Neighbours
from metahpo.similarity.ranking import agreement, ranked
from metahpo.similarity.relevance import (
    default_kglasso,
    learned_relevance,
    metafeature_weights,
    relevance,
)
from metahpo.similarity.similarity import EqualWeights, Similarity

__all__ = [
    "Distance",
    "EqualWeights",
    "GaussianKernel",
    "KGLasso",
    "LearnedMetric",
    "Neighbours",
    "Similarity",
    "Standardiser",
    "agreement",
    "default_kglasso",
    "learned_relevance",
    "metafeature_weights",
    "ranked",
    "relevance",
]
