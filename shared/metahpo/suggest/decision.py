"""A decision: what the policy chose, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
            None where there is no history.
        mean: Predicted value of the first configuration, in the task's own units; None where
            nothing was predicted.
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
                hopeless={name: _part(part) for name, part in record["hopeless"].items()},
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a recorded decision: {error!r}") from error


def _part(recorded: Sequence[Any]) -> Part:
    """JSON has lists where ranges were tuples."""
    return tuple(tuple(item) if isinstance(item, list) else item for item in recorded)
