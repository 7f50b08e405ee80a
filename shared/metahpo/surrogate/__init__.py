"""Predicting a task from its own trials and from past tasks."""

from metahpo.surrogate.gp import ClosedFormGP
from metahpo.surrogate.mixture import Component, Surrogate
from metahpo.surrogate.past import PastModels, aligned_features, thin
from metahpo.surrogate.transfer import Fitted, build, fit_parameters

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
