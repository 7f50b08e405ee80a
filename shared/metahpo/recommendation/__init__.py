"""Recommend: configurations for a new task before it has any trial.

``recommend`` predicts how past configurations would do on the new task from its meta-features,
through one of the similarities of ``metahpo.similarity``. Public: what is listed below. A new
method is a similarity and a line in ``METHODS``. (The folder is not called ``recommend``, because
``metahpo.recommend`` is the function.)
"""

from metahpo.recommendation.recommend import Recommendation, Recommendations, recommend

__all__ = ["Recommendation", "Recommendations", "recommend"]
