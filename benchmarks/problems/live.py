"""Problems whose trials are real trainings."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from benchmarks.cache import cached_json
from benchmarks.problems.base import Bounds, Problem
from metahpo.tasks.space import Array, Configuration

REFERENCE_TRIALS = 40


class LiveProblem(Problem):
    """A network that is trained at each evaluation.

    The value is minus the validation log-loss. A loss above twice that of guessing, and that of
    a network which diverged, counts as twice that of guessing: the worst value there is.
    """

    @property
    @abstractmethod
    def classes(self) -> int:
        """The number of classes."""

    @abstractmethod
    def train(self, configuration: Configuration) -> float:
        """Validation log-loss after training; NaN where it diverged."""

    @property
    def worst(self) -> float:
        """The value of a network that has learned nothing."""
        return -2.0 * math.log(self.classes)

    def evaluate(self, configurations: Sequence[Configuration]) -> Array:
        """Values of n trainings, larger is better."""
        return np.array([self._value(self.train(c)) for c in configurations])

    def _value(self, loss: float) -> float:
        return max(-loss, self.worst) if math.isfinite(loss) else self.worst

    @cached_property
    def bounds(self) -> Bounds:
        """The best of some random configurations, which runs may surpass; kept on disk."""
        name = f"bounds/{self.name.replace('/', '-')}-{REFERENCE_TRIALS}.json"
        best = cached_json(name, self._best_of_random)
        return Bounds(best, self.worst, exact=False)

    def _best_of_random(self) -> float:
        sampled = self.sample(REFERENCE_TRIALS, np.random.default_rng(0))
        return float(self.evaluate(sampled).max())
