"""Measured results of learners that the shipped network has never seen, from ``--data``/tables.

    rf         scikit-learn's random forest, 94 OpenML tasks x 500 configurations
    adaboost   AdaBoost of decision trees, 100 OpenML tasks x 400 (both van Rijn and Hutter 2018,
               "Hyperparameter importance across datasets")
    deepar     DeepAR on forecasting data, 9 tasks x 212 to 240
    nas201     cells of NAS-Bench-201, 3 data sets x all 15,625 (both Salinas et al. 2020, "A
               quantile-based approach for hyperparameter transfer learning")

A complete table is the problem itself. Between the rows of the others, extremely randomised trees
answer; tasks that they do not explain are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import KFold, cross_val_predict

from benchmarks.cache import cached_json
from benchmarks.problems.base import Bounds, DataMissingError, Problem, TaskRefusedError
from metahpo.surrogate.features import FeatureMap
from metahpo.tasks.space import Array, Configuration, Space

TREES = 200
# So many show whether trees explain a task at all.
FEW_TREES = 30
# With one, lucky rows become needles that no method finds.
ROWS_IN_LEAF = 2
LEAST_EXPLAINED = 0.5

_IMPUTER = CategoricalDistribution(["mean", "median", "most_frequent"])
_OPERATIONS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
SPACES = {
    "rf": Space(
        {
            "bootstrap": CategoricalDistribution(["True", "False"]),
            "criterion": CategoricalDistribution(["gini", "entropy"]),
            "max_features": FloatDistribution(0.1, 0.9),
            "min_samples_leaf": IntDistribution(1, 20),
            "min_samples_split": IntDistribution(2, 20),
            "imputer_strategy": _IMPUTER,
        }
    ),
    "adaboost": Space(
        {
            "algorithm": CategoricalDistribution(["SAMME", "SAMME.R"]),
            "learning_rate": FloatDistribution(0.01, 2.0, log=True),
            "max_depth": IntDistribution(1, 10),
            "n_estimators": IntDistribution(50, 500),
            "imputer_strategy": _IMPUTER,
        }
    ),
    "deepar": Space(
        {
            "num_layers": IntDistribution(2, 4),
            "num_cells": IntDistribution(30, 120),
            "dropout_rate": FloatDistribution(0.01, 0.5, log=True),
            "learning_rate": FloatDistribution(1e-4, 0.1, log=True),
            "num_batches_per_epoch": IntDistribution(10, 10_000, log=True),
            "context_length_ratio": FloatDistribution(0.05, 4.0, log=True),
        }
    ),
    "nas201": Space(
        {
            edge: CategoricalDistribution(_OPERATIONS)
            for edge in ("1<-0", "2<-0", "2<-1", "3<-0", "3<-1", "3<-2")
        }
    ),
}
# Tasks that come of one another: none is the history of another.
RELATED = {
    "rf": ("12 14 16 18 20 22", "9954 9955 9956", "3492 3493 3494", "3946 3948", "29 125923",
           "3902 3903 3904 3913 3917 3918", "3896 7592", "3573 3891", "15 9946"),
    "deepar": ("m4-Daily m4-Hourly m4-Monthly m4-Quarterly",),
    "nas201": ("cifar10 cifar100",),
}  # fmt: skip
RELATED["adaboost"] = RELATED["rf"]
# Every configuration was measured.
COMPLETE = ("nas201",)
# So few tasks that each is measured with the others as its history.
FEW = ("deepar", "nas201")


@cache
def relatives(family: str, task: str) -> frozenset[str]:
    """The task itself and those that come of the same data."""
    groups = (frozenset(group.split()) for group in RELATED[family])
    return next((group for group in groups if task in group), frozenset({task}))


def measured_tasks(family: str, data: Path) -> tuple[str, ...]:
    """The family's tasks, sorted, without those that the trees do not explain."""
    explained = cached_json(f"measured/{family}-explained.json", lambda: _explained(family, data))
    return tuple(task for task, share in explained.items() if share >= LEAST_EXPLAINED)


def measured_split(family: str, data: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """History and validation: every third group of related tasks is for validation.

    Both are all tasks where these are few; ``relatives`` are then left out of a task's history.
    """
    tasks = measured_tasks(family, data)
    if family in FEW:
        return tasks, tasks
    groups = list(dict.fromkeys(relatives(family, task) for task in tasks))
    reserved = frozenset().union(*groups[2::3])
    return (
        tuple(task for task in tasks if task not in reserved),
        tuple(task for task in tasks if task in reserved),
    )


@dataclass(frozen=True)
class MeasuredProblem(Problem):
    """A learner to be tuned on one task.

    Raises:
        TaskRefusedError: For a task that the family does not have.
        DataMissingError: Where there are no such data.
    """

    family: str
    task: str
    data: Path

    def __post_init__(self) -> None:
        if self.task not in _rows(self.family, self.data):
            raise TaskRefusedError(f"{self.name}: the family has no task of this name")

    @property
    def name(self) -> str:
        """Family and task, as ``rf/31``."""
        return f"{self.family}/{self.task}"

    @property
    def space(self) -> Space:
        """The hyperparameters, in natural units."""
        return SPACES[self.family]

    @property
    def bounds(self) -> Bounds:
        """Best and worst of the whole table where it is complete, or else of the trees."""
        if self.family not in COMPLETE:
            return super().bounds
        values = self._rows.values
        return Bounds(float(values.max()), float(values.min()))

    def evaluate(self, configurations: Sequence[Configuration]) -> Array:
        """Values of n configurations, larger is better."""
        points = self.space.encode(configurations)
        if self.family in COMPLETE:
            known = _index(self.family, self.task, self.data)
            return np.array([known[self.space.key(point)] for point in points])
        return _trees(self.family, self.task, self.data).predict(
            FeatureMap(self.space).array(points)
        )

    @property
    def _rows(self) -> _Rows:
        return _rows(self.family, self.data)[self.task]


@dataclass(frozen=True, eq=False)
class _Rows:
    """What was measured on one task: ``n x d`` points and ``n`` values."""

    points: Array
    values: Array


@cache
def _rows(family: str, data: Path) -> Mapping[str, _Rows]:
    path = data / "tables" / f"{family}.parquet"
    if not path.exists():
        raise DataMissingError(f"no benchmark data at {path}; pass their folder with --data")
    table, space = pq.read_table(path), SPACES[family]
    found = {}
    for task in sorted(pc.unique(table["task"]).to_pylist()):
        rows = table.filter(pc.field("task") == task)
        points = space.encode(rows.select(list(space)).to_pylist())
        found[task] = _Rows(points, rows["value"].to_numpy())
    return found


@cache
def _index(family: str, task: str, data: Path) -> Mapping[bytes, float]:
    rows = _rows(family, data)[task]
    return dict(zip(map(Space.key, rows.points), rows.values, strict=True))


@cache
def _trees(family: str, task: str, data: Path) -> ExtraTreesRegressor:
    rows = _rows(family, data)[task]
    return _forest(TREES).fit(FeatureMap(SPACES[family]).array(rows.points), rows.values)


def _forest(trees: int) -> ExtraTreesRegressor:
    return ExtraTreesRegressor(trees, min_samples_leaf=ROWS_IN_LEAF, random_state=0)


def _explained(family: str, data: Path) -> dict[str, float]:
    """The share of variance that trees explain on held-out rows, by task."""
    if family in COMPLETE:
        return dict.fromkeys(_rows(family, data), 1.0)
    features = FeatureMap(SPACES[family])
    folds = KFold(5, shuffle=True, random_state=0)
    shares = {}
    for task, rows in _rows(family, data).items():
        predicted = cross_val_predict(
            _forest(), features.array(rows.points), rows.values, cv=folds
        )
        shares[task] = 1.0 - float(np.mean((predicted - rows.values) ** 2) / np.var(rows.values))
    return shares
