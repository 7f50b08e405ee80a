"""Support vector machines on small real data sets, cross-validated live: ``examples/svm_problem``.

Nothing of it was shown to the shipped network. Problems that were made of the same rows stay
together, in the history or in the validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from benchmarks.cache import cached_json
from benchmarks.problems.base import Bounds, Problem, TaskRefusedError
from examples import svm_problem
from metahpo.tasks.space import Array, Configuration, Space

REFERENCE_CONFIGURATIONS = 200


def _groups() -> list[str]:
    return sorted({svm_problem.family(name) for name in svm_problem.DATASETS})


def _tasks(groups: Sequence[str]) -> tuple[str, ...]:
    return tuple(n for n in sorted(svm_problem.DATASETS) if svm_problem.family(n) in groups)


VALIDATION = _tasks(_groups()[2::3])
HISTORY = tuple(name for name in sorted(svm_problem.DATASETS) if name not in VALIDATION)


@dataclass(frozen=True)
class SVMProblem(Problem):
    """A support vector machine to be tuned on one data set; the value is balanced accuracy.

    Raises:
        TaskRefusedError: For a data set that is not among the example's.
    """

    task: str

    def __post_init__(self) -> None:
        if self.task not in svm_problem.DATASETS:
            raise TaskRefusedError(f"{self.name}: the family has no task of this name")

    @property
    def name(self) -> str:
        """Family and data set, as ``svm/bupa``."""
        return f"svm/{self.task}"

    @property
    def space(self) -> Space:
        """The hyperparameters, three of them conditional on the kernel."""
        return svm_problem.SPACE

    def evaluate(self, configurations: Sequence[Configuration]) -> Array:
        """Balanced accuracies of n configurations."""
        folds = _folds(self.task)
        return np.array([svm_problem.score(dict(c), folds) for c in configurations])

    @cached_property
    def bounds(self) -> Bounds:
        """Best and worst of random configurations, which runs may surpass; kept on disk."""
        name = f"bounds/svm-{self.task}-{REFERENCE_CONFIGURATIONS}.json"
        return Bounds(**cached_json(name, self._range_of_random), exact=False)

    def _range_of_random(self) -> dict[str, float]:
        values = self.evaluate(self.sample(REFERENCE_CONFIGURATIONS, np.random.default_rng(0)))
        return {"best": float(values.max()), "worst": float(values.min())}


@cache
def _folds(task: str) -> list[svm_problem.Fold]:
    inputs, classes = svm_problem.load(task)
    return svm_problem.split(svm_problem.encode(inputs), classes)
