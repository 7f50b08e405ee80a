"""Configurations to and from libraries that identify choices by their text."""

from __future__ import annotations

from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from benchmarks.problems import Problem
from metahpo.tasks.space import Configuration, Space


def own_configuration(values: Configuration, problem: Problem) -> dict[str, Any]:
    """Convert values of a library that has choices as text and numbers of its own classes."""
    configuration: dict[str, Any] = {}
    for name, value in values.items():
        match problem.space.distributions[name]:
            case CategoricalDistribution(choices=choices):
                texts = {str(choice): choice for choice in choices}
                configuration[name] = texts[str(value)]
            case IntDistribution():
                configuration[name] = int(value)
            case FloatDistribution(low=low, high=high):
                configuration[name] = min(max(float(value), low), high)
    return problem.active(configuration)


def foreign_configuration(configuration: Configuration, space: Space) -> dict[str, Any]:
    """The reverse: choices become their text."""
    return {
        name: str(value)
        if isinstance(space.distributions[name], CategoricalDistribution)
        else value
        for name, value in configuration.items()
    }
