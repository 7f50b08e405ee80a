"""Constraints of Optuna's trials: where they are stored, and by how much a trial violates them.

A constraint holds where it is at most 0. ``Trial.set_constraint`` stores each in its own system
attribute, ``constraints:NAME``; the older ``constraints_func`` of samplers stores a list
of all of them in ``constraints``. A trial without constraints is feasible, as in Optuna.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from metahpo.tasks.feasibility import total_violation

LISTED = "constraints"
NAMED = f"{LISTED}:"


def constraints_among(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a trial's system attributes that hold constraints."""
    return {k: v for k, v in attributes.items() if k == LISTED or k.startswith(NAMED)}


def violation_in(attributes: Mapping[str, Any]) -> float:
    """Return a trial's violation, by its system attributes.

    Args:
        attributes: The trial's system attributes, others included. What should be a number and
            is none counts as a violation of unknown size.
    """
    found: dict[str, Any] = {}
    # ``constraints_func`` that failed left None.
    if (listed := attributes.get(LISTED)) is not None:
        rows = listed if isinstance(listed, list | tuple) else [listed]
        found = {str(position): value for position, value in enumerate(rows)}
    for key, value in attributes.items():
        if key.startswith(NAMED):
            found[key.removeprefix(NAMED)] = value
    return total_violation(map(_number, found.values())) if found else 0.0


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
    except OverflowError:  # an integer beyond all floats
        return math.inf if value > 0 else -math.inf
