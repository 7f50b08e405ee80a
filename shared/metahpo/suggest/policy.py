"""What to try next: the one entry to everything below.

``suggest`` is a function of the task so far, the history and a seed. Stateless, apart from what a
``History`` keeps of what was made from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from metahpo.settings import DEFAULT_SETTINGS, PolicySettings
from metahpo.suggest.acquisition import maximise
from metahpo.suggest.decision import Decision, Part, Source
from metahpo.suggest.history import History, HistoryView
from metahpo.suggest.spread import beside, first_untried, spread
from metahpo.surrogate.contract import Surrogate, SurrogateFamily
from metahpo.surrogate.registry import DEFAULT, surrogate_family
from metahpo.surrogate.study_arrays import StudyArrays, study_arrays
from metahpo.surrogate.torch_state import own_torch_state
from metahpo.tasks.distributions import SpaceError
from metahpo.tasks.space import Array
from metahpo.tasks.task import Task
from metahpo.tasks.units import times_power_of_two


class ModelError(ArithmeticError):
    """A model cannot be fitted to a task's data, or its acquisition function be maximised."""


@own_torch_state()
def suggest(
    task: Task,
    history: Sequence[Task],
    *,
    count: int = 1,
    seed: int = 0,
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
        situation = _Situation(study, view, family, settings, count, rng)
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


@dataclass(frozen=True, eq=False)
class _Situation:
    """Everything that a decision depends on."""

    study: StudyArrays
    view: HistoryView
    family: SurrogateFamily
    settings: PolicySettings
    count: int
    rng: np.random.Generator

    @property
    def has_history(self) -> bool:
        return bool(self.view.aligned.tasks)

    @cached_property
    def surrogate(self) -> Surrogate:
        return self.family.fit(self.study, self.view.aligned, self.settings)

    @property
    def trust(self) -> float | None:
        """How far the history is trusted; None where none is read."""
        return self.surrogate.trust if self.has_history and self.settings.transfer else None

    def decision(
        self, points: Sequence[Array], source: Source, reason: str, **about: Any
    ) -> Decision:
        configurations = self.study.space.decode(np.stack(points))
        return Decision(tuple(configurations), source, reason, **about)

    def heaviest(self, weights: Array) -> tuple[tuple[str, float], ...]:
        """Names and shares of the past tasks that carry most weight, by its absolute amount."""
        total = float(np.abs(weights).sum())
        if not total:
            return ()
        order = np.argsort(-np.abs(weights), kind="stable")[: self.settings.named_tasks]
        tasks = self.view.aligned.tasks
        return tuple((tasks[i].name, float(weights[i]) / total) for i in order)


# ---- the ways to decide, in their order ----------------------------------------------------


def _cover_unknown_space(situation: _Situation) -> Decision | None:
    """Without history, a study begins with well-spread trials until a surrogate can say more."""
    study, settings = situation.study, situation.settings
    if situation.has_history or len(study.values) >= _space_filling_trials(situation):
        return None
    # An informed family ignores failures, so it has nothing to say while every trial has failed.
    if situation.family.is_informed(study.space, settings) and not study.all_failed:
        return None
    return _fill_space(situation, "Few trials yet and no history to follow")


def _start_from_portfolio(situation: _Situation) -> Decision | None:
    """With history, a study begins with what did best over the past tasks."""
    study, settings = situation.study, situation.settings
    if not situation.has_history or len(study.values) >= settings.portfolio.trials:
        return None
    if not settings.portfolio.enabled:
        return _fill_space(situation, "Few trials yet, and the portfolio is switched off")
    untried = [p for p in situation.view.portfolio if study.space.key(p) not in study.tried]
    points = spread(
        study, untried[: situation.count], situation.count, situation.rng, settings.search
    )
    tasks = situation.view.aligned
    return situation.decision(
        points,
        Source.PORTFOLIO,
        f"Among what did best, on average, over {len(tasks.tasks)} past tasks.",
        past_tasks=situation.heaviest(tasks.relevance),
        trust=1.0,
    )


def _audit_history(situation: _Situation) -> Decision | None:
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
    return situation.decision(
        spread(study, [], 1, situation.rng, settings.search),
        Source.SPACE_FILLING,
        "The best value has not improved for some trials: a configuration far from those tried, "
        "to test what history says.",
        trust=trust,
    )


def _maximise_improvement(situation: _Situation) -> Decision:
    """What the surrogate expects the largest improvement from."""
    study, search, surrogate = situation.study, situation.settings.search, situation.surrogate
    chosen: list[Array] = []
    hopeless: dict[str, Part] = {}
    for _ in range(situation.count):
        pending = np.concatenate([study.pending, *[point[None] for point in chosen]])
        maximum = maximise(
            surrogate.condition_on_pending(pending).improvement,
            study.space,
            study.best,
            situation.view.candidates,
            situation.rng,
            surrogate.effort,
            search,
        )
        if not chosen:
            hopeless = maximum.hopeless
        chosen.append(_untried(maximum.points, chosen, situation))
    mean, deviation = _predicted(surrogate, chosen[0], study.exponent)
    trust = situation.trust
    return situation.decision(
        chosen,
        Source.ACQUISITION,
        "Largest expected improvement over the best trial so far.",
        past_tasks=situation.heaviest(surrogate.task_weights) if trust else (),
        trust=trust,
        mean=mean,
        deviation=deviation,
        hopeless=hopeless,
    )


_Way: TypeAlias = Callable[[_Situation], Decision | None]
_WAYS: tuple[_Way, ...] = (
    _cover_unknown_space,
    _start_from_portfolio,
    _audit_history,
    _maximise_improvement,
)


# ---- their parts ---------------------------------------------------------------------------


def _space_filling_trials(situation: _Situation) -> int:
    search, d = situation.settings.search, len(situation.study.space)
    return int(np.clip(2 + d // 2, search.space_filling_min, search.space_filling_max))


def _fill_space(situation: _Situation, why: str) -> Decision:
    search = situation.settings.search
    return situation.decision(
        spread(situation.study, [], situation.count, situation.rng, search),
        Source.SPACE_FILLING,
        f"{why}: a configuration far from those tried.",
    )


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


def _untried(points: Array, chosen: Sequence[Array], situation: _Situation) -> Array:
    """The best point that was not tried; later ones of a batch are moved a little."""
    study, rng = situation.study, situation.rng
    key = study.space.key
    tried = study.tried | {key(point) for point in chosen}
    fresh = [first_untried(points, tried, study.space, rng)]
    if chosen:
        fresh.insert(0, beside(fresh[0], study.space, situation.settings.search.jitter, rng))
    return next((point for point in fresh if key(point) not in tried), fresh[-1])


def _predicted(
    surrogate: Surrogate, point: Array, exponent: int
) -> tuple[float | None, float | None]:
    """Mean and deviation at a point, in the task's own unit; None where unknown or infinite."""
    predicted = surrogate.predict(point[None])
    if predicted is None:
        return None, None
    mean, deviation = (float(times_power_of_two(moment, exponent)[0]) for moment in predicted)
    return (mean, deviation) if math.isfinite(mean) and math.isfinite(deviation) else (None, None)
