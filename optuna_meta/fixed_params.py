"""The values that a trial has whatever the sampler decides: enqueued, or fixed by a sampler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial

from metahpo.tasks.alignment import identity_of
from metahpo.tasks.space import Space
from optuna_meta._optuna import enqueued_params, sampler_params


def fixed_params(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """Return all values that are fixed for a trial, by name; what was enqueued comes first."""
    return {**sampler_params(study), **enqueued_params(trial)}


def fixed_in(space: Space, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fixed values under the names of a space, as its distributions give them out.

    Args:
        space: The space to decide in. Before the study's own is known it comes from the history,
            where a hyperparameter may have another name.
        fixed: Values by name. What is of no use to a distribution (a text for a number, an unknown
            choice) is left out: Optuna raises its error once the objective asks for it.
    """
    synonyms = {identity_of(name): name for name in reversed(space.names)}
    values: dict[str, Any] = {}
    for name, value in fixed.items():
        there = name if name in space else synonyms.get(identity_of(name))
        if there is None or (there != name and there in fixed):
            continue
        distribution = space.distributions[there]
        try:
            internal = distribution.to_internal_repr(value)
        except (TypeError, ValueError):
            continue
        values[there] = distribution.to_external_repr(internal)
    return values
