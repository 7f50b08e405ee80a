"""Ray Tune's domains, one hyperparameter each, as distributions and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from metahpo.tasks.choices import choice_key
from metahpo.tasks.distributions import parse_distribution
from raytune_meta._ray import (
    Categorical,
    Domain,
    Float,
    Integer,
    LogUniform,
    Normal,
    Quantized,
    Uniform,
)
from raytune_meta.plain import Distribution

# A normal distribution has no bounds, a search space does: 99.7% of the draws lie within these.
NORMAL_SPAN = 3.0
# Bounds this little (in quanta) beside a multiple are the multiple: 0.3 / 0.1 is
# 2.9999999999999996, and numbers of single precision are less exact.
ROUNDING = 1e-6


def to_distribution(name: str, domain: Domain) -> tuple[BaseDistribution, float | None]:
    """Return a numerical domain, or a choice of scalars, as a distribution.

    Args:
        name: The hyperparameter's name, for messages.
        domain: What ``tune.uniform`` and the like return, with plain numbers; or a
            ``Distribution``.

    Returns:
        The distribution, and the quantum that its values must be rounded to where the
        distribution cannot express it (a log scale with steps).

    Raises:
        ValueError: For a domain without values, or one that no distribution describes.
    """
    if isinstance(domain, Distribution):
        return domain.distribution, None
    sampler, quantum = domain.get_sampler(), None
    if isinstance(sampler, Quantized):
        sampler, quantum = sampler.get_sampler(), sampler.q
    log = isinstance(sampler, LogUniform)
    if isinstance(domain, Float) and isinstance(sampler, Uniform | LogUniform | Normal):
        return _float(name, domain, sampler, quantum, log)
    if isinstance(domain, Integer) and isinstance(sampler, Uniform | LogUniform):
        return _integer(name, domain, quantum, log)
    if isinstance(domain, Categorical) and isinstance(sampler, Uniform):
        choices = {choice_key(choice): choice for choice in domain.categories}
        return CategoricalDistribution(tuple(choices.values())), None
    raise ValueError(
        f"hyperparameter {name!r}: MetaSearch does not support parameters of type "
        f"{type(domain).__name__} with samplers of type {type(sampler).__name__}"
    )


def rounded(value: float, quantum: float, distribution: BaseDistribution) -> float:
    """Return the nearest multiple of the quantum, within the distribution's bounds."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    multiple = _multiple(round(value / quantum), quantum)
    within = min(max(multiple, distribution.low), distribution.high)
    return int(within) if isinstance(distribution, IntDistribution) else within


def _float(
    name: str, domain: Float, sampler: object, quantum: float | None, log: bool
) -> tuple[FloatDistribution, float | None]:
    low, high = float(domain.lower), float(domain.upper)
    if isinstance(sampler, Normal):
        spread = NORMAL_SPAN * sampler.sd
        low, high = max(low, sampler.mean - spread), min(high, sampler.mean + spread)
    if quantum is None:
        return FloatDistribution(low, high, log=log), None
    first, last = _multiples(name, low, high, quantum, exclusive=False, positive=log)
    low, high = _multiple(first, quantum), _multiple(last, quantum)
    if log:
        return FloatDistribution(low, high, log=True), quantum
    return FloatDistribution(low, high, step=quantum), None


def _integer(
    name: str, domain: Integer, quantum: float | None, log: bool
) -> tuple[IntDistribution, float | None]:
    # Ray excludes the upper bound, except for steps of more than one.
    step = int(quantum or 1)
    first, last = _multiples(
        name, domain.lower, domain.upper, step, exclusive=step == 1, positive=log
    )
    if log:
        return IntDistribution(first * step, last * step, log=True), step if step > 1 else None
    return IntDistribution(first * step, last * step, step=step), None


def _multiples(
    name: str, low: float, high: float, quantum: float, *, exclusive: bool, positive: bool
) -> tuple[int, int]:
    """Return the least and the greatest number of quanta between the bounds."""
    if isinstance(low, int) and isinstance(high, int) and isinstance(quantum, int):
        first, last = -(-low // quantum), high // quantum  # exact, however large
    else:
        first = math.ceil(low / quantum - ROUNDING)
        last = math.floor(high / quantum + ROUNDING)
    last -= exclusive
    if positive:
        first = max(first, 1)
    if first > last:
        raise ValueError(
            f"hyperparameter {name!r} has no value: no multiple of {quantum} lies between "
            f"{low} and {high}{' (exclusive)' if exclusive else ''}"
        )
    return first, last


def _multiple(count: int, quantum: float) -> float:
    # 3 * 0.1 is 0.30000000000000004.
    return float(count * Decimal(str(quantum)))


# ---- search spaces as JSON -----------------------------------------------------------------


def to_json(tree: Any) -> Any:
    """Return a search space as what JSON can hold: containers and domains as tagged objects.

    Raises:
        TypeError: For a value of a kind that Ray does not leave in a search space.
    """
    match tree:
        case None | bool() | int() | float() | str():
            return tree
        case Mapping():
            return {"dict": [[to_json(key), to_json(value)] for key, value in tree.items()]}
        case list() | tuple():
            return {type(tree).__name__: [to_json(item) for item in tree]}
        case Categorical():
            return {"choice": [to_json(choice) for choice in tree.categories]}
        case Float() | Integer():
            kind = "float" if isinstance(tree, Float) else "integer"
            return {kind: [tree.lower, tree.upper, *_sampler_to_json(tree)]}
        case Distribution():
            return {"distribution": distribution_to_json(tree.distribution)}
    raise TypeError(f"a search space cannot hold {tree!r} of type {type(tree).__name__}")


def from_json(record: Any) -> Any:
    """Return the search space that ``to_json`` described.

    Raises:
        ValueError: For anything else.
    """
    if not isinstance(record, dict):
        return record
    ((kind, content),) = record.items()
    match kind:
        case "dict":
            return {from_json(key): from_json(value) for key, value in content}
        case "list":
            return [from_json(item) for item in content]
        case "tuple":
            return tuple(from_json(item) for item in content)
        case "choice":
            return Categorical([from_json(item) for item in content]).uniform()
        case "distribution":
            return Distribution(parse_distribution(content))
        case "float" | "integer":
            return _domain_from_json(Float if kind == "float" else Integer, *content)
    raise ValueError(f"not a recorded search space: {kind!r}")


def _sampler_to_json(domain: Domain) -> tuple[str, list[float], float | None]:
    """Return a sampler's kind, its parameters and its quantum."""
    sampler, quantum = domain.get_sampler(), None
    if isinstance(sampler, Quantized):
        sampler, quantum = sampler.get_sampler(), sampler.q
    if isinstance(sampler, Normal):
        return "normal", [sampler.mean, sampler.sd], quantum
    return "loguniform" if isinstance(sampler, LogUniform) else "uniform", [], quantum


def _domain_from_json(
    kind: Any,
    low: float,
    high: float,
    sampler: str,
    parameters: list[float],
    quantum: float | None,
) -> Domain:
    domain = getattr(kind(low, high), sampler)(*parameters)
    if quantum is not None:
        # Not ``quantized``: it refuses bounds that lie a rounding error beside a multiple.
        domain.set_sampler(Quantized(domain.get_sampler(), quantum), allow_override=True)
    return domain
