"""Configurations for a new task before it has any trial.

``recommend`` predicts how past configurations perform on the new task from its meta-features,
using a similarity of ``metahpo.similarity``; ``result`` holds what it returns. Public: the names
below. Add a method as a similarity and a line in ``METHODS``. (The folder is not called
``recommend`` because ``metahpo.recommend`` is the function.)
"""

from metahpo.recommendation.recommend import recommend
from metahpo.recommendation.result import Evidence, Recommendation, Recommendations

__all__ = ["Evidence", "Recommendation", "Recommendations", "recommend"]
