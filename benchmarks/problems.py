"""Tuning problems: YAHPO surrogates of real training runs.

A family is a learner with its search space (``xgboost``); a problem is that learner on one data
set. Fidelities are fixed at their full value and, like the data set, are no part of the space.
Values are maximised: error rates come negated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from benchmarks.cache import cached_json
from metahpo.space import Array, Condition, Configuration, Space

DATA = Path(__file__).parents[2] / "shared" / "benchdata"
FAMILIES = ("lcbench", "xgboost", "rpart", "ranger", "glmnet")
# These share OpenML data sets, so that a data set may be validation in one only if it is
# history in none.
SHARING = ("xgboost", "rpart", "ranger", "glmnet")

CURVE_STEPS = {"epoch": tuple(range(1, 53)), "trainsize": (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)}
# The models' own ranges: percent for lcbench, fractions for the others.
CEILINGS = {"lcbench": 100.0}

RANDOM_CONFIGURATIONS = 8_000
LOCAL_STARTS = 64
LOCAL_ROUNDS = 40
LOCAL_NEIGHBOURS = 16
BATCH = 4_096


class TaskRefusedError(ValueError):
    """A task that the family does not have, or that is held out; the message names it."""


# ---- families ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Family:
    """A learner, its search space and the model that predicts how it fares.

    Attributes:
        name: One of ``FAMILIES``.
        instances: Names of the data sets, sorted.
        space: Hyperparameters, parents before those that depend on them.
        description: The family's entry in ``tasks.json``.
        encoding: For each categorical input, the code of each choice.
        session: The model.
    """

    name: str
    instances: tuple[str, ...]
    space: Space
    description: Mapping[str, Any]
    encoding: Mapping[str, Mapping[str, int]]
    session: onnxruntime.InferenceSession

    @cached_property
    def fidelity(self) -> str:
        """The fidelity whose steps make a learning curve."""
        return next(name for name in CURVE_STEPS if name in self.description["full_fidelity"])

    def values(
        self, task: str, configurations: Sequence[Configuration], **fidelity: float
    ) -> Array:
        """The objective, larger is better.

        Args:
            task: A data set.
            configurations: n configurations; inactive hyperparameters are absent.
            **fidelity: Fidelities that are not at their full value.

        Returns:
            n; NaN where the task is held out.
        """
        fixed = self.description["full_fidelity"] | fidelity
        rows = [{**configuration, **fixed} for configuration in configurations]
        batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        outputs = [self._predict(task, batch) for batch in batches]
        values = np.concatenate(outputs) if outputs else np.empty(0)
        clipped = np.clip(values, 0.0, CEILINGS.get(self.name, 1.0))
        return clipped if self.description["objective"]["maximize"] else -clipped

    def _predict(self, task: str, rows: Sequence[Configuration]) -> Array:
        description = self.description
        codes = [self._codes(name, task, rows) for name in description["categorical_inputs"]]
        numbers = [
            [row.get(name, description["missing_continuous"]) for row in rows]
            for name in description["continuous_inputs"]
        ]
        inputs = {"x_cat": np.array(codes, np.int32).T, "x_cont": np.array(numbers, np.float32).T}
        (outputs,) = self.session.run(None, inputs)
        column = description["outputs"].index(description["objective"]["output"])
        return np.asarray(outputs, dtype=float)[:, column]

    def _codes(self, name: str, task: str, rows: Sequence[Configuration]) -> list[int]:
        codes = self.encoding[name]
        if name == self.description["instance_column"]:
            return [codes[task]] * len(rows)
        return [codes[row.get(name, self.description["missing_categorical"])] for row in rows]


@cache
def load_family(name: str, data: Path = DATA) -> Family:
    """The family, loaded once a process.

    Args:
        name: One of ``FAMILIES``.
        data: The benchmark data's folder.
    """
    folder = data / "yahpo" / name
    description = _tasks(data)[name]
    return Family(
        name=name,
        instances=tuple(sorted(description["instances"])),
        space=_space(json.loads((folder / "config_space.json").read_text()), description),
        description=description,
        encoding=json.loads((folder / "encoding.json").read_text()),
        session=_session(folder / "model.onnx"),
    )


@cache
def _tasks(data: Path) -> dict[str, Any]:
    return json.loads((data / "yahpo" / "tasks.json").read_text())


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _space(config_space: Mapping[str, Any], description: Mapping[str, Any]) -> Space:
    fixed = {description["instance_column"], *description["full_fidelity"]}
    distributions = {
        entry["name"]: _distribution(entry)
        for entry in config_space["hyperparameters"]
        if entry["name"] not in fixed
    }
    conditions = {entry["child"]: _condition(entry) for entry in config_space["conditions"]}
    parents_first = sorted(distributions, key=lambda name: name in conditions)
    return Space({name: distributions[name] for name in parents_first}, conditions)


def _distribution(entry: Mapping[str, Any]) -> BaseDistribution:
    match entry["type"]:
        case "categorical":
            return CategoricalDistribution(entry["choices"])
        case "uniform_int":
            return IntDistribution(entry["lower"], entry["upper"], log=entry["log"])
        case "uniform_float":
            return FloatDistribution(entry["lower"], entry["upper"], log=entry["log"])
        case kind:
            raise ValueError(f"hyperparameter {entry['name']!r}: unknown type {kind!r}")


def _condition(entry: Mapping[str, Any]) -> Condition:
    match entry["type"]:
        case "EQ":
            return Condition(entry["parent"], choices=(entry["value"],))
        case "IN":
            return Condition(entry["parent"], choices=tuple(entry["values"]))
        case kind:
            raise ValueError(f"condition on {entry['child']!r}: unknown type {kind!r}")


# ---- splits --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """Data sets to learn from, and data sets to measure on."""

    history: tuple[str, ...]
    validation: tuple[str, ...]


def split(family: str, data: Path = DATA) -> Split:
    """Every third data set is for validation; none of those is history anywhere.

    Args:
        family: One of ``FAMILIES``.
        data: The benchmark data's folder.
    """
    instances = sorted(_tasks(data)[family]["instances"])
    related = SHARING if family in SHARING else (family,)
    reserved = {task for name in related for task in _validation(name, data)}
    return Split(
        history=tuple(task for task in instances if task not in reserved),
        validation=_validation(family, data),
    )


def _validation(family: str, data: Path) -> tuple[str, ...]:
    return tuple(sorted(_tasks(data)[family]["instances"])[2::3])


# ---- problems ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounds:
    """Best and worst value known of a problem."""

    best: float
    worst: float

    def regret(self, values: Sequence[float] | Array) -> Array:
        """Normalised regret of each value, in [0, 1]."""
        span = max(self.best - self.worst, np.finfo(float).tiny)
        return np.clip((self.best - np.asarray(values, float)) / span, 0.0, 1.0)


@dataclass(frozen=True)
class Problem:
    """A learner to be tuned on one data set.

    Raises:
        TaskRefusedError: For a task that the family does not know or that is held out.
    """

    family: Family
    task: str

    def __post_init__(self) -> None:
        known = self.family.encoding[self.family.description["instance_column"]]
        if self.task not in known:
            raise TaskRefusedError(f"{self.name}: the family has no such task")
        if np.isnan(self.evaluate(self.space.decode(np.full((1, len(self.space)), 0.5)))).any():
            raise TaskRefusedError(f"{self.name}: held out, its surrogate answers NaN")

    @property
    def name(self) -> str:
        """Family and data set, as ``xgboost/1040``."""
        return f"{self.family.name}/{self.task}"

    @property
    def space(self) -> Space:
        """The hyperparameters."""
        return self.family.space

    def evaluate(self, configurations: Sequence[Configuration]) -> Array:
        """Values of n configurations at full fidelity, larger is better."""
        return self.family.values(self.task, configurations)

    def curves(self, configurations: Sequence[Configuration]) -> tuple[tuple[float, ...], Array]:
        """Learning curves.

        Args:
            configurations: n configurations.

        Returns:
            The s steps, and n x s values.
        """
        steps = CURVE_STEPS[self.family.fidelity]
        columns = [
            self.family.values(self.task, configurations, **{self.family.fidelity: step})
            for step in steps
        ]
        return steps, np.stack(columns, axis=1)

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """A configuration asked from ``trial``, as define-by-run code would."""
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

    @cached_property
    def bounds(self) -> Bounds:
        """Best and worst over random configurations and a local search; kept on disk."""
        name = f"bounds/{self.family.name}-{self.task}-{RANDOM_CONFIGURATIONS}-{LOCAL_STARTS}.json"
        return Bounds(**cached_json(name, self._find_bounds))

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


def load_problem(family: str, task: str, data: Path = DATA) -> Problem:
    """The problem of tuning the family's learner on a data set.

    Raises:
        TaskRefusedError: For a task that the family does not know or that is held out.
    """
    return Problem(load_family(family, data), task)


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
