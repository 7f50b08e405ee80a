"""Multilayer perceptrons on KEEL data sets, trained live: the problem of ``examples/``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from benchmarks.problems.base import TaskRefusedError
from benchmarks.problems.live import LiveProblem
from examples import mlp_problem
from metahpo.tasks.space import Configuration, Space

HISTORY = mlp_problem.HISTORY
VALIDATION = mlp_problem.HELD_OUT
SPACE = Space(
    {
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
        "num_layers": IntDistribution(1, 4),
        "width": IntDistribution(8, 256, log=True),
        "batch_size": IntDistribution(16, 256, log=True),
        "optimizer": CategoricalDistribution(["sgd", "adamw", "rmsprop"]),
    }
)


@dataclass(frozen=True)
class MLPProblem(LiveProblem):
    """A perceptron to be tuned on one data set.

    Raises:
        TaskRefusedError: For a data set that is not among the example's.
    """

    task: str

    def __post_init__(self) -> None:
        if self.task not in mlp_problem.DATASETS:
            raise TaskRefusedError(f"{self.name}: the family has no task of this name")

    @property
    def name(self) -> str:
        """Family and data set, as ``mlp/german``."""
        return f"mlp/{self.task}"

    @property
    def space(self) -> Space:
        """The hyperparameters of ``mlp_problem.suggest``."""
        return SPACE

    @property
    def metafeatures(self) -> dict[str, float]:
        """Sizes of the data set."""
        return mlp_problem.metafeatures(_data(self.task))

    @property
    def classes(self) -> int:
        """The number of classes."""
        return _data(self.task).classes

    def train(self, configuration: Configuration) -> float:
        """Validation log-loss after the last epoch."""
        arguments: dict[str, Any] = dict(configuration)
        *_, score = mlp_problem.train(_data(self.task), arguments, seed=0)
        return score.log_loss


@cache
def _data(task: str) -> mlp_problem.Data:
    return mlp_problem.load(task)
