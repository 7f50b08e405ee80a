"""A decision: what the policy chose, and why.

Values are maximised here. What a host stores of it is a ``DecisionRecord``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from metahpo.tasks.space import Configuration


@dataclass(frozen=True)
class Part:
    """Some of the values of one hyperparameter.

    Attributes:
        ranges: (low, high) on the natural scale, both ends included; of a number.
        choices: Of a categorical.
    """

    ranges: tuple[tuple[float, float], ...] = ()
    choices: tuple[Any, ...] = ()


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
        hopeless: For hyperparameters of which the surrogate considers a part hopeless, that part
            (``metahpo.suggest.hopeless``).
    """

    configurations: tuple[Configuration, ...]
    source: Source
    reason: str
    past_tasks: tuple[tuple[str, float], ...] = ()
    trust: float | None = None
    mean: float | None = None
    deviation: float | None = None
    hopeless: Mapping[str, Part] = field(default_factory=dict)
