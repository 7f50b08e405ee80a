"""Which past tasks matter."""

from metahpo.similarity.description import Standardiser
from metahpo.similarity.kglasso import KGLasso
from metahpo.similarity.metafeatures import (
    default_kglasso,
    learned_relevance,
    metafeature_weights,
    relevance,
)
from metahpo.similarity.metric import LearnedMetric
from metahpo.similarity.neighbours import (
    Distance,
    GaussianKernel,
    Neighbours,
    Portfolio,
    Similarity,
)
from metahpo.similarity.ranking import agreement, ranked, sharpen

__all__ = [
    "Distance",
    "GaussianKernel",
    "KGLasso",
    "LearnedMetric",
    "Neighbours",
    "Portfolio",
    "Similarity",
    "Standardiser",
    "agreement",
    "default_kglasso",
    "learned_relevance",
    "metafeature_weights",
    "ranked",
    "relevance",
    "sharpen",
]
