"""Tuning that remembers: what knows neither trial loop (see docs/architecture.md)."""

from metahpo.archive import Archive
from metahpo.space import Space, SpaceError
from metahpo.task import Task, Trial, TrialState

__all__ = ["Archive", "Space", "SpaceError", "Task", "Trial", "TrialState"]
__version__ = "0.1.0"
