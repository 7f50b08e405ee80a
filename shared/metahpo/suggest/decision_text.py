"""A recorded decision as text for people. Computes nothing new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metahpo.suggest.decision import Part, Source
from metahpo.suggest.decision_record import DecisionRecord
from metahpo.tasks.choices import choice_text

_NAMED_TASKS = 5
_ORIGINS = {
    Source.PORTFOLIO: "Taken from the portfolio, configurations that suit the past tasks.",
    Source.SPACE_FILLING: "Taken to cover the search space.",
    Source.ACQUISITION: "Found by the acquisition function, which weighs promise and novelty.",
    Source.FALLBACK: "A fallback.",
}


def describe(decision: DecisionRecord) -> str:
    """Return what was decided and why, in sentences.

    Args:
        decision: As the host recorded it, in the host's units and direction.

    Returns:
        One paragraph: where the configuration came from, the reason, the past tasks that
        carried weight, the predicted value, the trust in the history, what is hopeless.
    """
    sentences = [
        _ORIGINS[decision.source],
        decision.reason.strip(),
        _past_tasks(decision.past_tasks),
        _prediction(decision.mean, decision.deviation),
        _trust(decision.trust),
        _hopeless(decision.hopeless),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _past_tasks(weighted: Sequence[tuple[str, float]]) -> str:
    if not weighted:
        return ""
    named = [f"{name} ({_share(weight)})" for name, weight in weighted[:_NAMED_TASKS]]
    if others := weighted[_NAMED_TASKS:]:
        named.append(f"{len(others)} more ({_percent(sum(abs(weight) for _, weight in others))})")
    return f"Past tasks that carried weight: {_listed(named)}."


def _prediction(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return ""
    spread = "" if deviation is None else f" ± {deviation:.4g}"
    return f"Predicted value: {mean:z.4g}{spread}."


def _trust(trust: float | None) -> str:
    if trust is None:
        return ""
    return f"Weight of the history against this study's own trials: {_percent(trust)}."


def _hopeless(parts: Mapping[str, Part]) -> str:
    if not parts:
        return ""
    return f"Considered hopeless: {_listed([_named_part(*item) for item in parts.items()])}."


def _named_part(name: str, part: Part) -> str:
    shown = [*(_range(low, high) for low, high in part.ranges), *map(choice_text, part.choices)]
    return f"{name} {' or '.join(shown)}"


def _range(low: float, high: float) -> str:
    return f"{low:.4g}" if low == high else f"from {low:.4g} to {high:.4g}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _share(weight: float) -> str:
    """Return a weight as text; negative where good configurations of that task are bad here."""
    return f"{_percent(-weight)}, reversed" if weight < 0 else _percent(weight)


def _percent(share: float) -> str:
    return "less than 1%" if 0 < share < 0.01 else f"{share:.0%}"
