"""YAHPO surrogates of real training runs.

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
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from benchmarks.problems.base import DataMissingError, Problem, TaskRefusedError
from metahpo.tasks.space import Array, Condition, Configuration, Space

DATA = Path(__file__).parents[3] / "shared" / "benchdata"
YAHPO = ("lcbench", "xgboost", "rpart", "ranger", "glmnet")
# These share OpenML data sets, so that a data set may be validation in one only if it is
# history in none.
SHARING = ("xgboost", "rpart", "ranger", "glmnet")

CURVE_STEPS = {"epoch": tuple(range(1, 53)), "trainsize": (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)}
# The models' own ranges: percent for lcbench, fractions for the others.
CEILINGS = {"lcbench": 100.0}

BATCH = 4_096


# ---- families ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Family:
    """A learner, its search space and the model that predicts its results.

    Attributes:
        name: One of ``YAHPO``.
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
        name: One of ``YAHPO``.
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
    path = data / "yahpo" / "tasks.json"
    if not path.exists():
        raise DataMissingError(f"no benchmark data at {path}; pass their folder with --data")
    return json.loads(path.read_text())


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


def yahpo_split(family: str, data: Path = DATA) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every third data set is for validation; none of those is history anywhere.

    Args:
        family: One of ``YAHPO``.
        data: The benchmark data's folder.

    Returns:
        History, and validation.
    """
    instances = sorted(_tasks(data)[family]["instances"])
    related = SHARING if family in SHARING else (family,)
    reserved = {task for name in related for task in _validation(name, data)}
    history = tuple(task for task in instances if task not in reserved)
    return history, _validation(family, data)


def _validation(family: str, data: Path) -> tuple[str, ...]:
    return tuple(sorted(_tasks(data)[family]["instances"])[2::3])


# ---- problems ------------------------------------------------------------------------------


@dataclass(frozen=True)
class YahpoProblem(Problem):
    """A learner to be tuned on one data set.

    Raises:
        TaskRefusedError: For a task that the family does not know or that is held out.
    """

    family: Family
    task: str

    def __post_init__(self) -> None:
        known = self.family.encoding[self.family.description["instance_column"]]
        if self.task not in known:
            raise TaskRefusedError(f"{self.name}: the family has no task of this name")
        if np.isnan(self.evaluate(self.space.decode(np.full((1, len(self.space)), 0.5)))).any():
            raise TaskRefusedError(f"{self.name}: its surrogate returns NaN")

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
