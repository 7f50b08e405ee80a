"""What the plug-ins share: arguments that they check alike, seeds, and asking the policy.

Importing this file does not import the policy, which brings PyTorch and takes seconds.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from metahpo.settings import PolicySettings
from metahpo.suggest.decision import Decision, Source
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task

# What a model's linear algebra raises on data that it cannot fit. A mistake of the user raises
# TypeError or ValueError and is shown.
_NUMERICAL_ERRORS = (RuntimeError, ArithmeticError, np.linalg.LinAlgError)


def suggest(
    task: Task,
    history: Sequence[Task],
    *,
    count: int,
    seed: int,
    define_by_run: bool,
    surrogate: str,
    settings: PolicySettings,
    failed: Callable[[Exception], None],
) -> Decision:
    """What the policy suggests; random configurations where its model fails.

    Args:
        task: The task so far.
        history: Past tasks.
        count: How many configurations.
        seed: Of everything random.
        define_by_run: As in ``metahpo.suggest.policy.suggest``.
        surrogate: As in ``metahpo.suggest.policy.suggest``.
        settings: As in ``metahpo.suggest.policy.suggest``.
        failed: Called with what a model raised, from within the ``except`` clause.
    """
    from metahpo.suggest import policy

    try:
        return policy.suggest(
            task,
            history,
            count=count,
            seed=seed,
            define_by_run=define_by_run,
            surrogate=surrogate,
            settings=settings,
        )
    except _NUMERICAL_ERRORS as error:
        failed(error)
        rng = np.random.default_rng(seed)
        reason = f"The model failed ({type(error).__name__}: {error}): drawn at random."
        drawn = tuple(random_configuration(task.space, rng) for _ in range(count))
        return Decision(drawn, Source.FALLBACK, reason)


def random_configuration(space: Space, rng: np.random.Generator) -> dict[str, Any]:
    """A configuration drawn uniformly on the space's own scales."""
    return space.decode(space.activate(rng.random((1, len(space)))))[0]


def fresh_seed() -> int:
    """A seed that no other call gives."""
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])


def trial_seed(seed: int, number: int) -> int:
    """The seed of a study's trial, so that the order of asking does not matter."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def checked_seed(seed: int) -> int:
    """The seed that a user gave.

    Raises:
        TypeError: For what is no integer.
        ValueError: For a negative one.
    """
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool):
        raise TypeError(f"seed must be an integer or None, got {seed!r}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    return int(seed)


def checked_metafeatures(given: Mapping[str, float]) -> dict[str, float]:
    """The meta-features that a user gave, without those that are NaN: unknown.

    Raises:
        TypeError: For what is no mapping of names to numbers.
        ValueError: For an infinite number.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"task must be a mapping of meta-features to numbers, got {given!r}")
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, numbers.Real):
            raise TypeError(
                f"task must map names of meta-features to numbers, got {name!r}: {value!r}"
            )
        if math.isinf(value):
            raise ValueError(f"meta-feature {name!r} must be finite, got {value!r}")
    return {name: float(value) for name, value in given.items() if not math.isnan(value)}
