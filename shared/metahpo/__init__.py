"""Tuning that remembers: everything that is independent of the trial loop.

Public are the names below. The rooms beside this file are for contributors; what users reach
through their framework is in ``optuna_meta`` and ``raytune_meta``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metahpo.archive import Archive, ArchiveError, SourceError, SourceWarning
from metahpo.settings import (
    AuditSettings,
    Effort,
    PolicySettings,
    PortfolioSettings,
    RefitSettings,
    SearchSettings,
    TrustSettings,
)
from metahpo.surrogate.registry import register_surrogate
from metahpo.tasks.space import Space, SpaceError
from metahpo.tasks.task import Task, Trial, TrialState

if TYPE_CHECKING:
    from metahpo.metafeatures import extract
    from metahpo.optim import Audit, LearnedOptimizer, load_weights, parameter_groups
    from metahpo.plots import (
        plot_decision,
        plot_hopeless,
        plot_metafeatures,
        plot_provenance,
        plot_task_map,
    )
    from metahpo.recommendation import recommend

__all__ = [
    "Archive",
    "ArchiveError",
    "Audit",
    "AuditSettings",
    "Effort",
    "LearnedOptimizer",
    "PolicySettings",
    "PortfolioSettings",
    "RefitSettings",
    "SearchSettings",
    "SourceError",
    "SourceWarning",
    "Space",
    "SpaceError",
    "Task",
    "Trial",
    "TrialState",
    "TrustSettings",
    "extract",
    "load_weights",
    "parameter_groups",
    "plot_decision",
    "plot_hopeless",
    "plot_metafeatures",
    "plot_provenance",
    "plot_task_map",
    "recommend",
    "register_surrogate",
]
__version__ = "0.1.0"

# They import torch or scikit-learn, which take seconds.
_LAZY = {
    "metahpo.metafeatures": ("extract",),
    "metahpo.optim": ("Audit", "LearnedOptimizer", "load_weights", "parameter_groups"),
    "metahpo.plots": (
        "plot_decision",
        "plot_hopeless",
        "plot_metafeatures",
        "plot_provenance",
        "plot_task_map",
    ),
    "metahpo.recommendation": ("recommend",),
}


def __getattr__(name: str) -> Any:
    for module, names in _LAZY.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
