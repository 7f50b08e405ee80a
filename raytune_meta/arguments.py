"""Checks of what users and trials pass to the searcher."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raytune_meta.plain import plain, plain_tree


def as_number(value: Any) -> float:
    """Return a report as a float; NaN for what is not one number.

    Arrays and tensors of one element are numbers; booleans are not.
    """
    number = plain(value)
    if isinstance(number, str | bytes | bool | np.complexfloating):
        return math.nan
    try:
        return float(number)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        # RuntimeError: a tensor of several elements.
        return math.nan


def check_metric(metric: object, mode: object) -> None:
    """Check for one metric and a mode that exists.

    Raises:
        TypeError: For a metric that is not a string.
        ValueError: For several metrics, and for another mode.
    """
    for name, given in (("metric", metric), ("mode", mode)):
        if isinstance(given, list | tuple):
            raise ValueError(f"MetaSearch tunes one metric; got {name}={given!r}")
    if metric is not None and not isinstance(metric, str):
        raise TypeError(f"metric must be a str or None, got {metric!r}")
    if mode not in (None, "max", "min"):
        raise ValueError(f"mode must be 'max' or 'min', got {mode!r}")


def checked_constraints(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the constraints.

    Raises:
        TypeError: For anything but a list or tuple of strings.
        ValueError: For an empty name, and one that is given twice.
    """
    given = () if names is None else names
    if not isinstance(given, list | tuple) or not all(isinstance(n, str) for n in given):
        raise TypeError(f"constraints must be a list of names of results, got {names!r}")
    if not all(given) or len(set(given)) < len(given):
        raise ValueError(f"constraints must be distinct names, none of them empty, got {names!r}")
    return tuple(given)


def checked_space(space: object) -> dict[str, Any]:
    """Return a search space, in plain containers and numbers.

    Raises:
        TypeError: For anything but a mapping, such as Optuna's define-by-run functions.
    """
    if not isinstance(space, Mapping):
        raise TypeError(
            "space must be a dictionary of Ray's domains or Optuna's distributions (functions "
            f"that define a space by running are not supported), got {space!r}"
        )
    return plain_tree(space)


def checked_points(
    points: Sequence[Mapping[str, Any]] | None, rewards: Sequence[float] | None
) -> tuple[list[Mapping[str, Any]], list[float]]:
    """Return the points to evaluate and their rewards (none, or one each), if they are sound.

    Raises:
        TypeError: For points that are not dictionaries, and rewards that are not numbers.
        ValueError: For another number of rewards than of points.
    """
    given = [] if points is None else list(points)
    for point in given:
        if not isinstance(point, Mapping):
            raise TypeError(f"points_to_evaluate must hold dictionaries, got {point!r}")
    if rewards is None:
        return given, []
    try:
        known = list(rewards)
    except TypeError:
        known = []
    if len(known) != len(given):
        raise ValueError(
            f"evaluated_rewards must have one number for each of the {len(given)} "
            f"points_to_evaluate, got {rewards!r}"
        )
    for reward in known:
        # A number that is NaN differs from itself: a failure, as in reports.
        if math.isnan(as_number(reward)) and plain(reward) == plain(reward):
            raise TypeError(f"evaluated_rewards must be numbers, got {reward!r}")
    return given, [as_number(reward) for reward in known]
