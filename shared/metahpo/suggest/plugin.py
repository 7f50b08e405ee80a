"""What the plug-ins share: checks of arguments, seeds, and the call of the policy.

Importing this file does not import the policy: that imports torch, which takes seconds.
"""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metahpo.settings import PolicySettings
from metahpo.suggest.decision import Decision, Source
from metahpo.suggest.fixed_values import decoded, positions_of
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task

if TYPE_CHECKING:
    from metahpo.suggest.history import History

# Errors of a model on data that it cannot fit; the policy makes ArithmeticErrors of ValueErrors
# that its models raise. A user's mistake raises TypeError or ValueError and is not caught.
_NUMERICAL_ERRORS = (RuntimeError, ArithmeticError)


def suggest(
    task: Task,
    history: Sequence[Task],
    *,
    count: int,
    seed: int,
    define_by_run: bool,
    surrogate: str,
    settings: PolicySettings,
    fixed: Mapping[str, Any] | None = None,
    on_failure: Callable[[Exception], None],
) -> Decision:
    """Return the policy's decision; random configurations where its model fails.

    Args:
        task: The task so far.
        history: Past tasks.
        count: Number of configurations.
        seed: Seed of everything random.
        define_by_run: As in ``metahpo.suggest.policy.suggest``.
        surrogate: As in ``metahpo.suggest.policy.suggest``.
        settings: As in ``metahpo.suggest.policy.suggest``.
        fixed: As in ``metahpo.suggest.policy.suggest``.
        on_failure: Called with the model's error, from within the ``except`` clause.
    """
    from metahpo.suggest import policy

    fixed = fixed or {}
    try:
        return policy.suggest(
            task,
            history,
            count=count,
            seed=seed,
            fixed=fixed,
            define_by_run=define_by_run,
            surrogate=surrogate,
            settings=settings,
        )
    except _NUMERICAL_ERRORS as error:
        on_failure(error)
        rng = np.random.default_rng(seed)
        reason = f"The model failed ({type(error).__name__}: {error}): drawn at random."
        drawn = tuple(random_configuration(task.space, rng, fixed) for _ in range(count))
        return Decision(drawn, Source.FALLBACK, reason)


def report_failure(
    error: Exception, study: str, reported: set[str], logger: logging.Logger
) -> None:
    """Log that a study's model failed: a warning once, tracebacks at level DEBUG.

    Args:
        error: The model's error, which is being handled.
        study: Names the study to people.
        reported: The studies with a warning so far; this one is added.
        logger: The host's.
    """
    logger.debug(f"{study}: the model failed", exc_info=True)
    if study in reported:
        return
    reported.add(study)
    logger.warning(
        f"{study}: the model failed ({error}). Trials for which it fails are drawn at random, "
        "and their explanations say so; only the first of a study is logged as a warning."
    )


def kept_history(tasks: Iterable[Task]) -> History:
    """Return past tasks as a ``History``, which keeps what the policy makes of them."""
    # Imported here: it imports torch.
    from metahpo.suggest.history import History

    return History(tasks)


def random_configuration(
    space: Space, rng: np.random.Generator, fixed: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a configuration drawn uniformly on the space's own scales, but for what is fixed."""
    fixed = fixed or {}
    points = space.canonical(rng.random((1, len(space))), positions_of(space, fixed))
    return decoded(space, points, fixed)[0]


def fresh_seed() -> int:
    """Return a seed from the operating system's entropy."""
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])


def trial_seed(seed: int, number: int) -> int:
    """Return the seed of a study's trial; the order in which trials decide does not matter."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def checked_seed(seed: int) -> int:
    """Return a user's seed as an ``int``.

    Raises:
        TypeError: For anything but an integer.
        ValueError: For a negative integer.
    """
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool):
        raise TypeError(f"seed must be an integer or None, got {seed!r}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    return int(seed)


def checked_metafeatures(given: Mapping[str, float]) -> dict[str, float]:
    """Return a user's meta-features without those that are NaN (unknown).

    Raises:
        TypeError: For anything but a mapping of names to numbers.
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
