"""The contract of tuning problems: a space, values to maximise, normalised regret."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from benchmarks.cache import cached_json
from metahpo.tasks.space import Array, Configuration, Space

RANDOM_CONFIGURATIONS = 8_000
LOCAL_STARTS = 64
LOCAL_ROUNDS = 40
LOCAL_NEIGHBOURS = 16


class TaskRefusedError(ValueError):
    """A task that the family does not have, or that is held out; the message names it."""


class DataMissingError(FileNotFoundError):
    """Files or packages that a family needs are missing; the message says how to get them."""


@dataclass(frozen=True)
class Bounds:
    """Best and worst known value of a problem.

    Attributes:
        best: The largest value.
        worst: The smallest value.
        exact: Whether nothing can be better. Where False, a run may find better values, and
            the report takes the best of all runs.
    """

    best: float
    worst: float
    exact: bool = True

    def regret(self, values: Sequence[float] | Array) -> Array:
        """Normalised regret of each value, in [0, 1]."""
        span = max(self.best - self.worst, np.finfo(float).tiny)
        return np.clip((self.best - np.asarray(values, float)) / span, 0.0, 1.0)


class Problem(ABC):
    """A learner to be tuned on one data set; values are maximised."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Family and task, as ``xgboost/1040``."""

    @property
    @abstractmethod
    def space(self) -> Space:
        """The hyperparameters, parents before those that depend on them."""

    @abstractmethod
    def evaluate(self, configurations: Sequence[Configuration]) -> Array:
        """Values of n configurations, larger is better."""

    @property
    def metafeatures(self) -> dict[str, float]:
        """Meta-features of the task; empty if it has none."""
        return {}

    @cached_property
    def bounds(self) -> Bounds:
        """Best and worst over random configurations and a local search; kept on disk."""
        file = self.name.replace("/", "-")
        name = f"bounds/{file}-{RANDOM_CONFIGURATIONS}-{LOCAL_STARTS}.json"
        return Bounds(**cached_json(name, self._find_bounds))

    def active(self, configuration: Configuration) -> dict[str, Any]:
        """The configuration without the hyperparameters that its own values rule out."""
        kept: dict[str, Any] = {}
        for name in self.space:
            condition = self.space.conditions.get(name)
            if condition is None or condition.admits(kept.get(condition.parent)):
                kept[name] = configuration[name]
        return kept

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return a configuration suggested by ``trial``, hyperparameter by hyperparameter."""
        configuration: dict[str, Any] = {}
        for name, distribution in self.space.distributions.items():
            condition = self.space.conditions.get(name)
            if condition is None or condition.admits(configuration.get(condition.parent)):
                configuration[name] = _suggest(trial, name, distribution)
        return configuration

    def objective(self, trial: optuna.Trial) -> float:
        """The objective of a study whose direction is "maximize"."""
        return float(self.evaluate([self.suggest(trial)])[0])

    def sample(self, n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
        """Random configurations, uniform on the space's own scales."""
        return self._decode(rng.random((n, len(self.space))))

    def _find_bounds(self) -> dict[str, float]:
        rng = np.random.default_rng(0)
        points = rng.random((RANDOM_CONFIGURATIONS, len(self.space)))
        values = self.evaluate(self._decode(points))
        top = np.argsort(-values)[:LOCAL_STARTS]
        best = self._climb(points[top], values[top], rng)
        return {"best": float(best), "worst": float(values.min())}

    def _climb(self, points: Array, values: Array, rng: np.random.Generator) -> float:
        """The best value that a local search from each point reaches."""
        for scale in np.geomspace(0.2, 0.005, LOCAL_ROUNDS):
            neighbours = _neighbours(self.space, points, scale, rng)
            found = self.evaluate(self._decode(neighbours)).reshape(LOCAL_NEIGHBOURS, -1)
            winner = found.argmax(axis=0)
            chains = np.arange(len(points))
            candidates = neighbours.reshape(LOCAL_NEIGHBOURS, *points.shape)[winner, chains]
            better = found[winner, chains] > values
            points = np.where(better[:, None], candidates, points)
            values = np.where(better, found[winner, chains], values)
        return values.max()

    def _decode(self, points: Array) -> list[dict[str, Any]]:
        return self.space.decode(self.space.activate(points))


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case IntDistribution():
            low, high = distribution.low, distribution.high
            return trial.suggest_int(name, low, high, step=distribution.step, log=distribution.log)
        case FloatDistribution():
            return trial.suggest_float(
                name, distribution.low, distribution.high, log=distribution.log
            )
        case _:
            raise TypeError(f"hyperparameter {name!r}: unknown distribution {distribution!r}")


def _neighbours(space: Space, points: Array, scale: float, rng: np.random.Generator) -> Array:
    """``LOCAL_NEIGHBOURS`` neighbours of each of n points, (neighbours * n) x d.

    Each differs in a random subset of hyperparameters: numbers move by a normal step, choices
    are drawn anew.
    """
    tiled = np.tile(points, (LOCAL_NEIGHBOURS, 1))
    moves = rng.random(tiled.shape) < rng.choice([1 / len(space), 0.5, 1.0], (len(tiled), 1))
    steps = np.clip(tiled + rng.normal(0.0, scale, tiled.shape), 0.0, 1.0)
    anew = np.array(space.is_categorical) & (rng.random(tiled.shape) < 0.3)
    proposals = np.where(anew, rng.random(tiled.shape), steps)
    return np.where(moves, proposals, tiled)
