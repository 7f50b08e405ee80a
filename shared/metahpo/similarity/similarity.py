"""The contract of a similarity, and the simplest one: equal weights.

Notation: t past tasks, m configurations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

import numpy as np

from metahpo.tasks.space import Array


class Similarity(Protocol):
    """Weights of past tasks for a new task, given the meta-features of both.

    The performance of a configuration on the new task is predicted as the weighted mean of its
    performance on the past tasks. A similarity is fitted once and then gives weights for any
    number of new tasks. It must accept tasks without meta-features and NaN among meta-features.

    To add one, implement the three members and add a line to ``METHODS`` in
    ``metahpo.recommendation.recommend``; ``docs/recommend.md`` has a worked example, and
    ``tests/similarity/test_similarity_contract.py`` checks every entry of ``METHODS``.
    """

    def fit(self, past: Sequence[Mapping[str, float]], performance: Array) -> Self:
        """Learn from past tasks.

        Args:
            past: Meta-features of the t past tasks, by name; NaN where unknown.
            performance: `t x m`, performance of the same m configurations on each task, as
                ranks scaled to [0, 1] (see ``ranked``); larger is better.

        Returns:
            The similarity itself.
        """
        ...

    def weights(self, present: Mapping[str, float]) -> Array:
        """Return the weights of the past tasks for a new task.

        Args:
            present: Meta-features of the new task, by name; possibly none.

        Returns:
            `t`, sums to 1. Entries may be negative, for tasks with the reverse ranking.
        """
        ...

    @property
    def importance(self) -> dict[str, float]:
        """The meta-features in use, with shares that sum to 1, largest first; may be empty."""
        ...


class EqualWeights:
    """The same weight for every past task, whatever its meta-features."""

    def fit(self, past: Sequence[Mapping[str, float]], performance: Array) -> Self:
        """Count the past tasks; ``performance`` is not used."""
        self._count = len(past)
        return self

    def weights(self, present: Mapping[str, float]) -> Array:
        """Return `t` equal weights that sum to 1."""
        return np.full(self._count, 1.0 / self._count)

    @property
    def importance(self) -> dict[str, float]:
        """Empty: no meta-feature is used."""
        return {}


def shrink(weights: Array, shrinkage: float) -> Array:
    """Normalise weights and move them towards equal weights.

    Args:
        weights: `t`, at least 0, not all of them 0.
        shrinkage: Fraction of the total that is spread equally over the tasks, in [0, 1].

    Returns:
        `t`, sums to 1.
    """
    return (1.0 - shrinkage) * weights / weights.sum() + shrinkage / len(weights)
