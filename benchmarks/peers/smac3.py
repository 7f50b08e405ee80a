"""SMAC3 (Lindauer et al. 2022): its facade for hyperparameter optimisation, by ask and tell."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from benchmarks.peers.base import NotInstalledError
from benchmarks.peers.translate import foreign_configuration, own_configuration
from benchmarks.problems import Problem
from metahpo.tasks.space import Condition, Configuration, Space
from metahpo.tasks.task import Task


def available() -> None:
    """Raise ``NotInstalledError`` if SMAC is missing."""
    if find_spec("smac") is None:
        raise NotInstalledError("SMAC3 is not installed: pip install 'metahpo[peers]'")


class SMACPeer:
    """A SMAC study; its initial design depends on the number of trials."""

    def __init__(self, problem: Problem, history: Sequence[Task], seed: int, trials: int) -> None:
        from smac import HyperparameterOptimizationFacade, Scenario

        self._problem = problem
        self._folder = tempfile.TemporaryDirectory()
        self._space = configuration_space(problem.space, seed)
        scenario = Scenario(
            self._space,
            deterministic=True,
            n_trials=trials,
            seed=seed,
            output_directory=self._folder.name,
        )
        self._optimiser = HyperparameterOptimizationFacade(
            scenario, lambda config, seed=0: 0.0, overwrite=True, logging_level=False
        )
        self._asked: Any = None

    def ask(self) -> dict[str, Any]:
        """Return what SMAC suggests."""
        self._asked = self._optimiser.ask()
        return own_configuration(dict(self._asked.config), self._problem)

    def tell(self, configuration: Configuration, value: float) -> None:
        """Pass SMAC, which minimises, the negated value."""
        from ConfigSpace import Configuration as SMACConfiguration
        from smac.runhistory.dataclasses import TrialInfo, TrialValue

        info = self._asked
        if info is None:
            values = foreign_configuration(configuration, self._problem.space)
            info = TrialInfo(SMACConfiguration(self._space, values=values), seed=0)
        self._optimiser.tell(info, TrialValue(cost=-value))
        self._asked = None

    def close(self) -> None:
        """Remove what SMAC wrote."""
        self._folder.cleanup()


# ---- spaces --------------------------------------------------------------------------------


def configuration_space(space: Space, seed: int) -> Any:
    """The space in ConfigSpace's types, conditions included; choices by their text."""
    from ConfigSpace import ConfigurationSpace, InCondition

    made = ConfigurationSpace(seed=seed)
    made.add([_hyperparameter(name, d) for name, d in space.distributions.items()])
    for name, condition in space.conditions.items():
        admitted = _admitted(condition, space.distributions[condition.parent])
        made.add(InCondition(made[name], made[condition.parent], admitted))
    return made


def _hyperparameter(name: str, distribution: BaseDistribution) -> Any:
    from ConfigSpace import Categorical, Float, Integer

    match distribution:
        case CategoricalDistribution():
            return Categorical(name, [str(choice) for choice in distribution.choices])
        case IntDistribution():
            return Integer(name, (distribution.low, distribution.high), log=distribution.log)
        case FloatDistribution():
            return Float(name, (distribution.low, distribution.high), log=distribution.log)
        case _:
            raise TypeError(f"hyperparameter {name!r}: unknown distribution {distribution!r}")


def _admitted(condition: Condition, parent: BaseDistribution) -> list[Any]:
    if isinstance(parent, CategoricalDistribution):
        return [str(choice) for choice in parent.choices if condition.admits(choice)]
    assert isinstance(parent, IntDistribution)
    return [value for value in range(parent.low, parent.high + 1) if condition.admits(value)]
