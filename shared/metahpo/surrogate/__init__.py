"""Predicting a task from its own trials and from past tasks."""

from metahpo.surrogate.gp import ClosedFormGP
from metahpo.surrogate.past import PastModels, aligned_features, thin
from metahpo.surrogate.transfer import Component, Fitted, Surrogate, build, fit_parameters

__all__ = [
    "ClosedFormGP",
    "Component",
    "Fitted",
    "PastModels",
    "Surrogate",
    "aligned_features",
    "build",
    "fit_parameters",
    "thin",
]
