"""Optuna's samplers, with and without configurations of the past, and MetaSampler's variants."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, create_trial
from scipy.stats import rankdata

from benchmarks.peers.base import Setup
from benchmarks.peers.portfolio import all_active, best_of_each, portfolio, values_of
from benchmarks.problems import Problem
from metahpo.settings import PolicySettings
from metahpo.tasks.space import Configuration, Space
from metahpo.tasks.task import Task

Enqueue = Callable[[Sequence[Task], Space], list[dict[str, Any]]]


class SamplerPeer:
    """A study of a sampler, asked as define-by-run code asks."""

    def __init__(
        self,
        problem: Problem,
        sampler: BaseSampler,
        enqueued: Sequence[Configuration] = (),
    ) -> None:
        self._problem = problem
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        for configuration in enqueued:
            self._study.enqueue_trial(dict(configuration))
        self._asked: optuna.Trial | None = None

    def ask(self) -> dict[str, Any]:
        """What the sampler suggests."""
        self._asked = self._study.ask()
        return self._problem.suggest(self._asked)

    def tell(self, configuration: Configuration, value: float) -> None:
        """The value of the trial that is under way, or of one that was not asked for."""
        if self._asked is not None:
            self._study.tell(self._asked, value)
            self._asked = None
        else:
            self._study.add_trial(frozen(configuration, value, self._problem.space))

    def close(self) -> None:
        """Nothing to let go of."""


def frozen(configuration: Configuration, value: float, space: Space) -> FrozenTrial:
    """A finished trial of Optuna's."""
    distributions = {name: space.distributions[name] for name in configuration}
    return create_trial(params=dict(configuration), distributions=distributions, value=value)


# ---- set-ups -------------------------------------------------------------------------------


def plain(sampler: Callable[..., BaseSampler]) -> Setup:
    """A sampler at its defaults."""
    return lambda problem, history, seed, trials: SamplerPeer(problem, sampler(seed=seed))


def after(sampler: Callable[..., BaseSampler], enqueue: Enqueue) -> Setup:
    """A sampler at its defaults, after configurations chosen from the history."""

    def setup(problem: Problem, history: Sequence[Task], seed: int, trials: int) -> SamplerPeer:
        enqueued = enqueue(history, problem.space) if history else []
        return SamplerPeer(problem, sampler(seed=seed), enqueued)

    return setup


after_portfolio = partial(after, enqueue=portfolio)
after_best = partial(after, enqueue=best_of_each)


def all_numbers(problem: Problem) -> bool:
    """Whether CMA-ES knows all hyperparameters: it draws choices and conditional ones at random.

    CMA-ES needs two dimensions at least.
    """
    space = problem.space
    return not any(space.is_categorical) and not space.conditions and len(space) > 1


def warm_cma(problem: Problem, history: Sequence[Task], seed: int, trials: int) -> SamplerPeer:
    """CMA-ES that starts from the promising part of past trials (Nomura et al. 2021).

    Values of different tasks have no common scale: trials go in with their rank in their task.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        source = [trial for task in history for trial in _ranked(task, problem.space)]
        # The warm start replaces the random trials that the sampler would begin with.
        sampler = optuna.samplers.CmaEsSampler(
            seed=seed, n_startup_trials=0 if source else 1, source_trials=source or None
        )
    return SamplerPeer(problem, sampler)


def _ranked(task: Task, space: Space) -> list[FrozenTrial]:
    configurations = space.decode(all_active([t.configuration for t in task.observed], space))
    ranks = rankdata(values_of(task)) / len(task.observed)
    return [frozen(c, float(r), space) for c, r in zip(configurations, ranks, strict=True)]


# ---- MetaSampler ---------------------------------------------------------------------------

ABLATIONS = ("portfolio", "transfer", "trust", "metafeatures")


def _settings_without(part: str) -> PolicySettings:
    """The policy's settings with a part of it switched off."""
    settings = PolicySettings()
    match part:
        case "portfolio":
            return replace(settings, portfolio=replace(settings.portfolio, enabled=False))
        case "trust":
            return replace(settings, trust=replace(settings.trust, weigh=False))
    return replace(settings, **{part: False})


def _meta_sampler(
    problem: Problem, history: Sequence[Task], seed: int, **arguments: Any
) -> BaseSampler:
    # Imported here: the peers run without it.
    from optuna_meta import MetaSampler

    known = problem.metafeatures
    return MetaSampler(history=list(history), seed=seed, task=known or None, **arguments)


def meta(problem: Problem, history: Sequence[Task], seed: int, trials: int) -> SamplerPeer:
    """MetaSampler with the history."""
    return SamplerPeer(problem, _meta_sampler(problem, history, seed))


def meta_none(problem: Problem, history: Sequence[Task], seed: int, trials: int) -> SamplerPeer:
    """MetaSampler without any history."""
    return meta(problem, [], seed, trials)


def meta_with(*, historyless: bool = False, **arguments: Any) -> Setup:
    """MetaSampler with other arguments than its defaults."""
    return lambda problem, history, seed, trials: SamplerPeer(
        problem, _meta_sampler(problem, [] if historyless else history, seed, **arguments)
    )


def check_weights(path: str) -> None:
    """Refuses a file that holds no surrogate's weights.

    Raises:
        WeightsError: It says why.
    """
    from metahpo.surrogate.neural.pretrained import load_weights

    load_weights(path)


def has_part(part: str, problem: Problem) -> bool:
    """Whether there is something to turn off: most problems come without meta-features."""
    return part != "metafeatures" or bool(problem.metafeatures)


def ablated(part: str) -> Setup:
    """MetaSampler without one of ``ABLATIONS``."""
    return meta_with(settings=_settings_without(part))
