"""What a host stores with a trial about the decision behind it.

A ``Decision`` is in maximised units and holds configurations. A ``DecisionRecord`` is in the
units and the direction of the host's own values and leaves the configurations out, which the host
stores anyway. ``record_of`` is the only place where one becomes the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from metahpo.suggest.decision import Decision, Part, Source
from metahpo.tasks.choices import choice_text, holds_in_json, plain_scalar
from metahpo.tasks.distributions import is_number


@dataclass(frozen=True)
class DecisionRecord:
    """Why a trial tries what it tries.

    Attributes:
        source: Where the configuration came from.
        reason: One sentence for people.
        past_tasks: Names and weights of the past tasks that carried weight, heaviest first.
        trust: Weight of the transferred prediction against the target-only one, in [0, 1];
            None without a history.
        mean: Predicted value of the trial, in the host's units and direction; None where
            nothing was predicted.
        deviation: Standard deviation of that prediction, same units.
        hopeless: For hyperparameters of which the surrogate considers a part hopeless, that part
            (``metahpo.suggest.hopeless``).
    """

    source: Source
    reason: str
    past_tasks: tuple[tuple[str, float], ...] = ()
    trust: float | None = None
    mean: float | None = None
    deviation: float | None = None
    hopeless: Mapping[str, Part] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record as what JSON can hold: of any other choice, its text."""
        parts = {
            name: {"ranges": part.ranges, "choices": tuple(map(_in_json, part.choices))}
            for name, part in self.hopeless.items()
        }
        return asdict(replace(self, hopeless={})) | {"hopeless": parts}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> DecisionRecord:
        """Return the record that ``to_json`` described.

        Raises:
            ValueError: For anything else.
        """
        try:
            return cls(
                source=Source(record["source"]),
                reason=_text(record["reason"]),
                past_tasks=tuple((_text(n), _number(w)) for n, w in record["past_tasks"]),
                trust=_number_or_none(record["trust"]),
                mean=_number_or_none(record["mean"]),
                deviation=_number_or_none(record["deviation"]),
                hopeless={_text(name): _part(part) for name, part in record["hopeless"].items()},
            )
        # Whatever has other contents than it should, or none.
        except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"not a recorded decision: {error!r:.200}") from error


def record_of(decision: Decision, sign: float, position: int = 0) -> DecisionRecord:
    """Return what a host stores with one of a decision's configurations.

    Args:
        decision: As the policy made it.
        sign: 1 for a host whose values are maximised, -1 for one that minimises.
        position: Which of the decision's configurations the trial runs. The prediction is that
            of the first, so that the records of later ones have none.
    """
    mean = decision.mean if position == 0 else None
    return DecisionRecord(
        source=decision.source,
        reason=decision.reason,
        past_tasks=decision.past_tasks,
        trust=decision.trust,
        mean=None if mean is None else sign * mean,
        deviation=None if mean is None else decision.deviation,
        hopeless=decision.hopeless,
    )


def _in_json(choice: Any) -> Any:
    choice = plain_scalar(choice)
    return choice if holds_in_json(choice) else choice_text(choice)


def _part(recorded: Mapping[str, Any]) -> Part:
    """Return the part that JSON holds; choices are what JSON makes of them."""
    ranges = tuple((_number(low), _number(high)) for low, high in recorded["ranges"])
    choices = recorded["choices"]
    if not isinstance(choices, list | tuple):
        raise TypeError(f"choices expected, got {choices!r}")
    return Part(ranges, tuple(choices))


def _text(recorded: Any) -> str:
    if not isinstance(recorded, str):
        raise TypeError(f"a text expected, got {recorded!r}")
    return recorded


def _number(recorded: Any) -> float:
    if not is_number(recorded):
        raise TypeError(f"a number expected, got {recorded!r}")
    return float(recorded)


def _number_or_none(recorded: Any) -> float | None:
    return None if recorded is None else _number(recorded)
