"""The learned optimizer: a ``torch.optim.Optimizer`` without a learning rate.

Public: the names below (guide: ``docs/learned_optimizer.md``). ``reference.py`` shows what a step
does, in 80 plain lines. All other modules are parts of ``LearnedOptimizer``; meta-training
(``metahpo.train.optimizer``) uses rule, schedule and weights too. Whoever changes what a step
does changes ``reference.py`` with it. Imports nothing else of metahpo.
"""

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
