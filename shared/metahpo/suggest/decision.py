"""A decision: what the policy chose, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from metahpo.tasks.space import Configuration


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
            None where there is no history.
        mean: Predicted value of the first configuration, in the task's own units; None where
            nothing was predicted.
        deviation: Standard deviation of that prediction, same units.
        shrunk: The part of the space that was searched, as (low, high) on the natural scale,
            for the hyperparameters whose range was narrowed.
    """

    configurations: tuple[Configuration, ...]
    source: Source
    reason: str
    past_tasks: tuple[tuple[str, float], ...] = ()
    trust: float | None = None
    mean: float | None = None
    deviation: float | None = None
    shrunk: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What a host stores with the trial: everything but the configurations."""
        record = asdict(self)
        del record["configurations"]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Decision:
        """The decision that ``to_json`` recorded, without its configurations.

        Raises:
            ValueError: For a record that is no decision.
        """
        try:
            return cls(
                configurations=(),
                source=Source(record["source"]),
                reason=record["reason"],
                past_tasks=tuple((str(n), float(w)) for n, w in record["past_tasks"]),
                trust=record["trust"],
                mean=record["mean"],
                deviation=record["deviation"],
                shrunk={name: (low, high) for name, (low, high) in record["shrunk"].items()},
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a recorded decision: {error!r}") from error
