"""Tuning that remembers: what knows neither trial loop (see docs/architecture.md)."""

from typing import TYPE_CHECKING, Any

from metahpo.archive import Archive
from metahpo.tasks.space import Space, SpaceError
from metahpo.tasks.task import Task, Trial, TrialState

if TYPE_CHECKING:
    from metahpo.optim import LearnedOptimizer
    from metahpo.recommendation.recommend import recommend

__all__ = [
    "Archive",
    "LearnedOptimizer",
    "Space",
    "SpaceError",
    "Task",
    "Trial",
    "TrialState",
    "recommend",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # They bring torch, which takes seconds.
    if name == "LearnedOptimizer":
        from metahpo.optim import LearnedOptimizer

        return LearnedOptimizer
    if name == "recommend":
        from metahpo.recommendation.recommend import recommend

        return recommend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
