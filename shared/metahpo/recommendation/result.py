"""What ``recommend`` returns: configurations, and the past tasks they were chosen from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from metahpo.tasks.space import Configuration


@dataclass(frozen=True)
class Evidence:
    """The performance of a configuration on one past task.

    Attributes:
        task: Name of the past task.
        weight: Weight of the past task; the weights of all past tasks sum to 1.
        score: Performance there, from 0 for the worst candidate to 1 for the best.
    """

    task: str
    weight: float
    score: float


@dataclass(frozen=True)
class Recommendation:
    """A configuration to try.

    Attributes:
        configuration: The configuration.
        score: Predicted performance, from 0 for the worst candidate to 1 for the best.
        evidence: The past tasks with the largest weights, largest first.
    """

    configuration: Configuration
    score: float
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class Recommendations(Sequence[Recommendation]):
    """Configurations to try, in this order, and what they are based on.

    Attributes:
        items: The recommendations.
        method: Name of the similarity.
        past_tasks: Names and weights of all past tasks, largest weight first.
        metafeatures: The meta-features that decided, with shares that sum to 1, largest first;
            empty if all past tasks had the same weight.
    """

    items: tuple[Recommendation, ...]
    method: str
    past_tasks: tuple[tuple[str, float], ...]
    metafeatures: tuple[tuple[str, float], ...]

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Recommendation: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Recommendation, ...]: ...

    def __getitem__(self, index: int | slice) -> Recommendation | tuple[Recommendation, ...]:
        return self.items[index]

    @property
    def configurations(self) -> list[Configuration]:
        """The configurations alone, as for ``study.enqueue_trial``."""
        return [item.configuration for item in self.items]
