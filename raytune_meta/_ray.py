"""Every access to Ray beyond its documented interface, in one place.

Documented are ``tune.Tuner``, ``tune.run``, the functions that make search spaces and the
methods of ``Searcher``; domains, placeholders and the searcher's own attributes are not. Where Ray
changes, this file changes and no other; its tests (``tests/raytune_meta/test_ray_internals.py``)
fail first. What Ray writes into experiments' folders is in ``folders.py``, which needs no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from ray.air.constants import TRAINING_ITERATION
from ray.tune.impl.placeholder import create_resolvers_map, inject_placeholders
from ray.tune.result import DEFAULT_METRIC
from ray.tune.search import UNDEFINED_METRIC_MODE, UNDEFINED_SEARCH_SPACE, Searcher
from ray.tune.search.sample import (
    Categorical,
    Domain,
    Float,
    Integer,
    LogUniform,
    Normal,
    Quantized,
    Uniform,
)

__all__ = [
    "DEFAULT_METRIC",
    "TRAINING_ITERATION",
    "Categorical",
    "Domain",
    "Float",
    "Integer",
    "LogUniform",
    "Normal",
    "Placeholder",
    "Quantized",
    "Uniform",
    "is_function",
    "resolve",
    "set_metric",
    "take_out_objects",
    "undefined_metric",
    "undefined_space",
]

# Ray's name for a function or an object that was taken out of a search space.
Placeholder: TypeAlias = tuple[str, str]
# What the placeholders of functions (``tune.sample_from``) begin with.
_FUNCTION = "__fn_ph"


def set_metric(searcher: Searcher, metric: str | None, mode: str | None) -> None:
    """Set the metric and mode of a searcher, as Ray's own searchers do when Ray names them."""
    searcher._metric, searcher._mode = metric, mode


# ---- messages ------------------------------------------------------------------------------


def undefined_space(searcher: Searcher) -> str:
    """Return Ray's message for a searcher without a search space, and what it leaves out."""
    name = type(searcher).__name__
    hint = (
        f" Distributions of Optuna's are hyperparameters in {name}(space=...) alone: Ray does not "
        "show search algorithms what other objects param_space holds."
    )
    return UNDEFINED_SEARCH_SPACE.format(cls=name, space="space") + hint


def undefined_metric(searcher: Searcher) -> str:
    """Return Ray's message for a searcher without a metric or a mode."""
    name = type(searcher).__name__
    return UNDEFINED_METRIC_MODE.format(cls=name, metric=searcher.metric, mode=searcher.mode)


# ---- functions and objects in search spaces ------------------------------------------------


def take_out_objects(tree: dict[str, Any]) -> tuple[dict[str, Any], dict[Placeholder, Any]]:
    """Replace functions and objects in a search space by placeholders.

    Args:
        tree: The search space; changed in place.

    Returns:
        The search space, and Ray's resolvers of what was taken out.
    """
    resolvers = create_resolvers_map()
    plain: Any = inject_placeholders(tree, resolvers)
    return plain, {r.get_placeholder(): r for group in resolvers.values() for r in group}


def is_function(placeholder: Placeholder) -> bool:
    """Whether a placeholder is that of a function, not of an object."""
    return placeholder[0] == _FUNCTION


def resolve(resolver: Any, placeholder: Placeholder, tree: Mapping[str, Any]) -> Any:
    """Return an object, or what a function makes of the trial's configuration ``tree``."""
    return resolver.resolve(tree) if is_function(placeholder) else resolver.resolve()
