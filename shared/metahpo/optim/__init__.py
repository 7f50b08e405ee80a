"""An optimizer that was learned. Uses nothing else of metahpo (see docs/learned_optimizer.md)."""

from metahpo.optim.audit import Audit
from metahpo.optim.groups import parameter_groups
from metahpo.optim.optimizer import LearnedOptimizer
from metahpo.optim.weights import WeightsError, initial_weights, load_weights, save_weights

__all__ = [
    "Audit",
    "LearnedOptimizer",
    "WeightsError",
    "initial_weights",
    "load_weights",
    "parameter_groups",
    "save_weights",
]
