"""Which past tasks matter."""

from metahpo.similarity.metafeatures import metafeature_weights, relevance
from metahpo.similarity.ranking import agreement, sharpen

__all__ = ["agreement", "metafeature_weights", "relevance", "sharpen"]
