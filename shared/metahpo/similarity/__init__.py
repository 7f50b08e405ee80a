"""Which past tasks matter."""

from metahpo.similarity.agreement import agreement, sharpen
from metahpo.similarity.metafeatures import metafeature_weights, relevance

__all__ = ["agreement", "metafeature_weights", "relevance", "sharpen"]
