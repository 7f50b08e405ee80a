"""Tuning that remembers: everything that knows neither trial loop (see docs/architecture.md).

Public are the names below. The rooms beside this file are for contributors; what users reach
through their framework is in ``optuna_meta`` and ``raytune_meta``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metahpo.archive import Archive
from metahpo.settings import PolicySettings
from metahpo.surrogate.registry import register_surrogate
from metahpo.tasks.space import Space, SpaceError
from metahpo.tasks.task import Task, Trial, TrialState

if TYPE_CHECKING:
    from metahpo.metafeatures import extract
    from metahpo.optim import LearnedOptimizer
    from metahpo.recommendation import recommend

__all__ = [
    "Archive",
    "LearnedOptimizer",
    "PolicySettings",
    "Space",
    "SpaceError",
    "Task",
    "Trial",
    "TrialState",
    "extract",
    "recommend",
    "register_surrogate",
]
__version__ = "0.1.0"

# They import torch or scikit-learn, which take seconds.
_LAZY = {
    "LearnedOptimizer": "metahpo.optim",
    "extract": "metahpo.metafeatures",
    "recommend": "metahpo.recommendation",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
