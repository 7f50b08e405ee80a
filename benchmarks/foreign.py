"""Another search space for the same learner, as another team may have chosen it.

Conditional hyperparameters and their parents stay as in the family's own space; the rest changes:

- the last two unconditional hyperparameters are missing (one where there are three, none where
  there are fewer): they stood at the middle of their range;
- numbers have other bounds: the lower four fifths of their own range, on its own scale;
- the first hyperparameter for which there is a common synonym has that name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from benchmarks.problems import Problem
from metahpo.tasks.alignment import SYNONYMS
from metahpo.tasks.space import INACTIVE_POSITION, Array, Configuration, Space

MISSING = 2
KEPT_SHARE = 0.8
# Common spellings of names that are listed in normalised form among the synonyms.
SPELLINGS = {
    "lr": "lr",
    "wd": "wd",
    "bs": "bs",
    "nestimators": "n_estimators",
    "depth": "depth",
    "maxdepth": "max_depth",
    "minsamplesleaf": "min_samples_leaf",
    "minsamplessplit": "min_samples_split",
    "lambdal1": "lambda_l1",
}


class ForeignSpace(Problem):
    """A problem in another space; its values are those of the problem itself.

    Args:
        problem: The problem as it is.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    @property
    def name(self) -> str:
        """The problem's own name: it is the same task."""
        return self._problem.name

    @property
    def metafeatures(self) -> dict[str, float]:
        """The problem's own."""
        return self._problem.metafeatures

    @cached_property
    def space(self) -> Space:
        """The other space."""
        own, missing, renamed = self._problem.space, self._missing, self._renamed
        return Space(
            {
                renamed.get(name, name): narrowed(distribution)
                for name, distribution in own.distributions.items()
                if name not in missing
            },
            dict(own.conditions),
        )

    def evaluate(self, configurations: Sequence[Configuration]) -> Array:
        """Values of n configurations of the other space."""
        return self._problem.evaluate([self._own(c) for c in configurations])

    def _own(self, configuration: Configuration) -> dict[str, Any]:
        names = {new: name for name, new in self._renamed.items()}
        known = {names.get(name, name): value for name, value in configuration.items()}
        return self._problem.active(self._middle | known)

    @cached_property
    def _middle(self) -> dict[str, Any]:
        own = self._problem.space
        return own.decode(np.full((1, len(own)), INACTIVE_POSITION))[0]

    @cached_property
    def _missing(self) -> tuple[str, ...]:
        free = self._free
        return free[len(free) - min(MISSING, max(len(free) - 2, 0)) :]

    @cached_property
    def _renamed(self) -> dict[str, str]:
        own = self._problem.space
        known = ((name, other_name(name)) for name in self._free if name not in self._missing)
        return next(({name: new} for name, new in known if new and new not in own), {})

    @cached_property
    def _free(self) -> tuple[str, ...]:
        """Hyperparameters that have no condition and that none depends on."""
        own = self._problem.space
        bound = {*own.conditions, *(condition.parent for condition in own.conditions.values())}
        return tuple(name for name in own if name not in bound)


def narrowed(distribution: BaseDistribution) -> BaseDistribution:
    """The lower part of a number's range, on its own scale; choices are kept."""
    if isinstance(distribution, CategoricalDistribution) or distribution.single():
        return distribution
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    (upper,) = Space({"x": distribution}).decode(np.array([[KEPT_SHARE]]))
    high = max(upper["x"], distribution.low)
    if isinstance(distribution, IntDistribution):
        return IntDistribution(distribution.low, high, log=distribution.log)
    return FloatDistribution(distribution.low, high, log=distribution.log)


def other_name(name: str) -> str | None:
    """A synonym of a hyperparameter's name; None if there is none."""
    tidy = re.sub(r"[^a-z0-9]", "", name.lower())
    others = next((group - {tidy} for group in SYNONYMS if tidy in group), frozenset())
    return next((spelt for other, spelt in SPELLINGS.items() if other in others), None)
