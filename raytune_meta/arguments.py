"""What users and trials pass to the searcher, checked."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def as_number(value: Any) -> float:
    """A report as a number; NaN for what is none."""
    if value is None or isinstance(value, str | bytes | bool):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def check_metric(metric: object, mode: object) -> None:
    """One metric, and a mode that is one.

    Raises:
        TypeError: For a metric that is no text.
        ValueError: For several metrics, and for another mode.
    """
    for name, given in (("metric", metric), ("mode", mode)):
        if isinstance(given, list | tuple):
            raise ValueError(f"MetaSearch tunes one metric; got {name}={given!r}")
    if metric is not None and not isinstance(metric, str):
        raise TypeError(f"metric must be a text or None, got {metric!r}")
    if mode not in (None, "max", "min"):
        raise ValueError(f"mode must be 'max' or 'min', got {mode!r}")


def checked_points(
    points: Sequence[Mapping[str, Any]] | None, rewards: Sequence[float] | None
) -> list[Mapping[str, Any]]:
    """Points to evaluate, as many as there are rewards for them.

    Raises:
        TypeError: For points that are no dictionaries, and rewards that are no numbers.
        ValueError: For rewards that are not as many.
    """
    given = list(points or ())
    for point in given:
        if not isinstance(point, Mapping):
            raise TypeError(f"points_to_evaluate must hold dictionaries, got {point!r}")
    if rewards is None:
        return given
    if not isinstance(rewards, Iterable) or len(rewards) != len(given):
        raise ValueError(
            f"evaluated_rewards must be as many as points_to_evaluate ({len(given)}), got "
            f"{rewards!r}"
        )
    for reward in rewards:
        if not isinstance(reward, numbers.Real):
            raise TypeError(f"evaluated_rewards must be numbers, got {reward!r}")
    return given
