"""What to try next: the one entry to everything below.

``suggest`` is a function of the task so far, the history and a seed. Stateless, apart from what a
``History`` keeps of what was made from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from metahpo.settings import DEFAULT_SETTINGS, PolicySettings
from metahpo.suggest.acquisition import maximise
from metahpo.suggest.decision import Decision, Part, Source
from metahpo.suggest.history import History
from metahpo.suggest.situation import Situation
from metahpo.suggest.spread import beside, first_untried
from metahpo.surrogate.contract import Surrogate
from metahpo.surrogate.registry import DEFAULT, surrogate_family
from metahpo.surrogate.study_arrays import StudyArrays, study_arrays
from metahpo.surrogate.torch_state import own_torch_state
from metahpo.tasks.distributions import SpaceError
from metahpo.tasks.space import Array
from metahpo.tasks.task import Task
from metahpo.tasks.units import times_power_of_two

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class ModelError(ArithmeticError):
    """A model cannot be fitted to a task's data, or its acquisition function be maximised."""


@own_torch_state()
def suggest(
    task: Task,
    history: Sequence[Task],
    *,
    count: int = 1,
    seed: int = 0,
    fixed: Mapping[str, Any] = _NOTHING,
    define_by_run: bool = True,
    surrogate: str = DEFAULT,
    settings: PolicySettings = DEFAULT_SETTINGS,
) -> Decision:
    """Configurations to run next.

    Args:
        task: The task so far, running trials included; its space is what is searched.
        history: Past tasks. A ``History`` keeps what is made of them for the next call.
        count: How many configurations.
        seed: Of everything random.
        fixed: Values that the next configurations have, whatever is best; the others are chosen
            given these. A value that has no place in the space is not taken into account, and
            neither is a name that is not in it.
        define_by_run: Whether the task's space is only what its trials have shown so far, so
            that conditions and hyperparameters that the history shows are added to it. False where
            the space is stated in full.
        surrogate: A registered name (``metahpo.surrogate.registry``) or a file of the pretrained
            network's weights.
        settings: Of the policy.

    Returns:
        The configurations and the reasons. The same arguments give the same decision.

    Raises:
        ValueError: For a count below 1, a space without hyperparameters or with conditions that
            depend on each other, or a file that holds no weights.
        OSError: The weights cannot be read.
        ArithmeticError, RuntimeError: A model cannot be fitted to the data.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if not len(task.space):
        raise ValueError("the space has no hyperparameters")
    family = surrogate_family(surrogate)
    with _numerical_errors():
        view = History.of(history).view(task, settings, define_by_run=define_by_run)
        study = study_arrays(task, view.aligned.space)
        rng = np.random.default_rng(seed)
        situation = Situation(task, study, view, family, settings, count, dict(fixed), rng)
        # The first way that has something to say decides; the last one always has.
        decisions = (way(situation) for way in _WAYS)
        return next(decision for decision in decisions if decision is not None)


@contextmanager
def _numerical_errors() -> Iterator[None]:
    """Tell ValueErrors of models from those of arguments, which were raised before.

    Linear algebra, trees and networks raise them for data that they cannot fit.
    """
    try:
        yield
    except SpaceError:
        raise
    except ValueError as error:
        raise ModelError(f"{type(error).__name__}: {error}") from error


# ---- the ways to decide, in their order ----------------------------------------------------


def _cover_unknown_space(situation: Situation) -> Decision | None:
    """Without history, a study begins with well-spread trials until a surrogate can say more."""
    study, settings = situation.study, situation.settings
    if situation.has_history or len(study.values) >= _space_filling_trials(situation):
        return None
    # An informed family ignores failures, so it has nothing to say while every trial has failed.
    if situation.family.is_informed(study.space, settings) and not study.all_failed:
        return None
    return _fill_space(situation, "Few trials yet and no history to follow")


def _start_from_portfolio(situation: Situation) -> Decision | None:
    """With history, a study begins with what did best over the past tasks."""
    study, settings = situation.study, situation.settings
    if not situation.has_history or len(study.values) >= settings.portfolio.trials:
        return None
    if not settings.portfolio.enabled:
        return _fill_space(situation, "Few trials yet, and the portfolio is switched off")
    members = _next_members(situation)
    if not members:
        return _fill_space(situation, "What did best over the past tasks was tried")
    others = situation.count - len(members)
    far = f" The last {others} of {situation.count} are far from these." if others else ""
    tasks = situation.view.aligned
    return situation.decision(
        situation.spread(members, situation.count),
        Source.PORTFOLIO,
        f"Among what did best, on average, over {len(tasks.tasks)} past tasks.{far}",
        past_tasks=situation.heaviest(tasks.relevance),
        trust=1.0,
    )


def _audit_history(situation: Situation) -> Decision | None:
    """A trial far from all others, once following the history no longer pays off.

    Good history and misleading history look alike from within a plateau: where all trials are
    equally good, or equally bad, both models predict them well. One trial far from all others
    tells the two apart, and costs least while nothing else improves.
    """
    study, settings = situation.study, situation.settings
    if not settings.trust.weigh or situation.count > 1:
        return None
    trust = situation.trust
    if trust is None or trust < settings.audit.min_trust or not _is_stuck(study, settings):
        return None
    untried = situation.untried_cells()
    if untried is not None and not len(untried):
        return None
    return situation.decision(
        situation.spread([], 1),
        Source.SPACE_FILLING,
        "The best value has not improved for some trials: a configuration far from those tried, "
        "to test what history says.",
        trust=trust,
    )


def _maximise_improvement(situation: Situation) -> Decision:
    """What the surrogate expects the largest improvement from."""
    study, search, surrogate = situation.study, situation.settings.search, situation.surrogate
    chosen: list[Array] = []
    hopeless: dict[str, Part] = {}
    for _ in range(situation.count):
        left = situation.untried_cells(chosen)
        pending = np.concatenate([study.pending, *[point[None] for point in chosen]])
        maximum = maximise(
            _conditioned(surrogate, pending, situation).improvement,
            study.space,
            study.best,
            situation.view.candidates,
            situation.rng,
            surrogate.effort,
            search,
            situation.held,
            situation.cells if left is not None and not len(left) else left,
        )
        if not chosen:
            hopeless = maximum.hopeless
        chosen.append(_untried(maximum.points, chosen, situation))
    mean, deviation = _predicted(surrogate, chosen[0], study.exponent)
    if situation.all_infeasible:
        # The values are then measures of the violations.
        mean = deviation = None
    trust = situation.trust
    return situation.decision(
        chosen,
        Source.ACQUISITION,
        _aim(situation),
        past_tasks=situation.heaviest(surrogate.task_weights) if trust else (),
        trust=trust,
        mean=mean,
        deviation=deviation,
        hopeless=hopeless,
    )


_Way: TypeAlias = Callable[[Situation], Decision | None]
_WAYS: tuple[_Way, ...] = (
    _cover_unknown_space,
    _start_from_portfolio,
    _audit_history,
    _maximise_improvement,
)


# ---- their parts ---------------------------------------------------------------------------


def _aim(situation: Situation) -> str:
    """What the expected improvement is over: the best trial is a feasible one, if there is any."""
    if (~np.isnan(situation.held)).any():
        return (
            "Largest expected improvement over what is predicted of trials with the given values."
        )
    if situation.all_infeasible:
        return (
            "No trial has met the constraints yet: largest expected improvement over the trial "
            "of smallest violation."
        )
    is_constrained = not all(trial.feasible for trial in situation.task.observed)
    best = "best feasible trial" if is_constrained else "best trial"
    return f"Largest expected improvement over the {best} so far."


def _space_filling_trials(situation: Situation) -> int:
    search, d = situation.settings.search, len(situation.study.space)
    return int(np.clip(2 + d // 2, search.space_filling_min, search.space_filling_max))


def _fill_space(situation: Situation, why: str) -> Decision:
    return situation.decision(
        situation.spread([], situation.count),
        Source.SPACE_FILLING,
        f"{why}: a configuration far from those tried.",
    )


def _next_members(situation: Situation) -> list[Array]:
    """The next members of the portfolio that were not tried, nor nearly so, as whole points.

    Where in its range to try what the history says nothing of is left to chance, far from all
    others.
    """
    study, held = situation.study, situation.held
    members: list[Array] = []
    for member in situation.view.portfolio(held):
        if len(members) == situation.count:
            break
        taken = np.concatenate([study.taken, *[point[None] for point in members]])
        if not _is_near(member, taken, situation):
            (whole,) = study.space.canonical(member[None], held)
            unknown = bool((np.isnan(member) & ~np.isnan(whole)).any())
            further = situation.spread([], 1, member) if unknown else [whole]
            members += further
    return members


def _is_near(member: Array, taken: Array, situation: Situation) -> bool:
    """Whether a trial says what a member would, in all that the history says of the member."""
    features, near = situation.view.aligned.features, situation.settings.search.near
    as_tried = np.where(np.isnan(member), taken, member)
    gaps = features.array(situation.study.space.canonical(as_tried, situation.held))
    gaps -= features.array(taken)
    return bool((np.linalg.norm(gaps, axis=1) <= near).any())


def _is_stuck(study: StudyArrays, settings: PolicySettings) -> bool:
    """Whether the best value has stood for as long as an audit waits, or twice as long, ..."""
    audit, count = settings.audit, len(study.values)
    if not count:
        return False
    standing = count - 1 - int(np.argmax(study.values))
    return (
        0 < standing <= audit.most * audit.after
        and standing % audit.after == 0
        and count <= audit.until
    )


def _conditioned(surrogate: Surrogate, pending: Array, situation: Situation) -> Surrogate:
    """The surrogate at pending trials; where values are fixed, relative to trials with these."""
    study, held = situation.study, situation.held
    conditioned = surrogate.condition_on_pending(pending)
    if np.isnan(held).all() or not len(study.points) + len(pending):
        return conditioned
    given = study.space.canonical(pending, held)
    return conditioned.relative_to(np.concatenate([situation.compared, given]))


def _untried(points: Array, chosen: Sequence[Array], situation: Situation) -> Array:
    """The best point that was not tried; later ones of a batch are moved a little."""
    study, rng, held = situation.study, situation.rng, situation.held
    tried = study.tried.and_also(chosen)
    if situation.cells is not None:
        # All that there is was listed: where nothing is left, the best is repeated.
        return points[int(np.argmin(tried(points)))]
    fresh = first_untried(points, tried, study.space, rng, held)
    if not chosen:
        return fresh
    moved = beside(fresh, study.space, situation.settings.search.jitter, rng, held)
    return fresh if tried(moved[None])[0] else moved


def _predicted(
    surrogate: Surrogate, point: Array, exponent: int
) -> tuple[float | None, float | None]:
    """Mean and deviation at a point, in the task's own unit; None where unknown or infinite."""
    predicted = surrogate.predict(point[None])
    if predicted is None:
        return None, None
    mean, deviation = (float(times_power_of_two(moment, exponent)[0]) for moment in predicted)
    return (mean, deviation) if math.isfinite(mean) and math.isfinite(deviation) else (None, None)
