"""A decision: what the policy chose, and why.

Values are maximised here. What a host stores of it is a ``DecisionRecord``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from metahpo.tasks.space import Configuration

# Values of a hyperparameter: (low, high) ranges of a number, choices of a categorical.
Part: TypeAlias = tuple[Any, ...]


class Source(StrEnum):
    """Where a decision's configurations came from."""

    PORTFOLIO = "portfolio"
    SPACE_FILLING = "space-filling"
    ACQUISITION = "acquisition"
    FALLBACK = "fallback"


@dataclass(frozen=True)
class Decision:
    """Configurations to run next, and the reasons.

    Attributes:
        configurations: What to run, in this order.
        source: Where they came from.
        reason: One sentence for people.
        past_tasks: Names and weights of the past tasks that carried weight, heaviest first.
        trust: Weight of the transferred prediction against the target-only one, in [0, 1];
            None without a history.
        mean: Predicted value of the first configuration, in the task's units, maximised; None
            where nothing was predicted.
        deviation: Standard deviation of that prediction, same units.
        hopeless: For hyperparameters of which the surrogate considers a part hopeless, that part:
            (low, high) ranges on the natural scale, or choices (``metahpo.suggest.hopeless``).
    """

    configurations: tuple[Configuration, ...]
    source: Source
    reason: str
    past_tasks: tuple[tuple[str, float], ...] = ()
    trust: float | None = None
    mean: float | None = None
    deviation: float | None = None
    hopeless: Mapping[str, Part] = field(default_factory=dict)
