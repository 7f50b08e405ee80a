"""The methods compared: those that users have today, and this project's own.

random, tpe, gp, cma    Optuna's samplers at their defaults; CMA-ES starts from past trials
tpe+portfolio,          after eight configurations chosen from history by a greedy portfolio,
gp+portfolio            enqueued first, as a careful user would
tpe+best, gp+best       after the best configuration of each past task, enqueued first
rgpe                    ranking-weighted Gaussian process ensemble
smac                    SMAC3
syne-zero-shot,         Syne Tune's transfer methods
syne-bounding-box,
syne-quantile
hebo                    HEBO
meta, meta-none         MetaSampler with the history, and without any
meta-gp, meta-neural,   MetaSampler with the surrogate of that name, with and without history
meta-gp-none, ...
meta-no-...             MetaSampler without a part of it
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import optuna

from benchmarks.peers import hebo, samplers, smac3, synetune
from benchmarks.peers.base import Method, NotInstalledError, Peer, Setup
from benchmarks.problems import Problem
from metahpo.surrogate.registry import surrogate_names
from metahpo.tasks.task import Task

__all__ = [
    "ABLATIONS",
    "METHODS",
    "Method",
    "NotInstalledError",
    "Peer",
    "Run",
    "Setup",
    "is_historyless",
    "method_named",
    "run",
    "started",
    "timed_trial",
]


def _rgpe(problem: Problem, history: Sequence[Task], seed: int, trials: int) -> Peer:
    # Imported here: it imports torch, which most peers do without.
    from benchmarks.peers.rgpe import RGPEPeer

    return RGPEPeer(problem, history, seed, trials)


_SAMPLERS = {
    "random": optuna.samplers.RandomSampler,
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
}

METHODS: dict[str, Method] = {
    **{name: Method(samplers.plain(kind), "optuna") for name, kind in _SAMPLERS.items()},
    "cma": Method(samplers.warm_cma, "cmaes", learns=True, applies=samplers.all_numbers),
    **{
        f"{name}+{what}": Method(after(_SAMPLERS[name]), "optuna", learns=True)
        for what, after in (
            ("portfolio", samplers.after_portfolio),
            ("best", samplers.after_best),
        )
        for name in ("tpe", "gp")
    },
    "rgpe": Method(_rgpe, "botorch", learns=True),
    "smac": Method(smac3.SMACPeer, "smac", available=smac3.available),
    **{
        f"syne-{name}": Method(setup, "syne-tune", learns=True, available=synetune.available)
        for name, setup in synetune.METHODS.items()
    },
    "hebo": Method(hebo.HEBOPeer, "HEBO", available=hebo.available),
    "meta": Method(samplers.meta, "metahpo", learns=True),
    "meta-none": Method(samplers.meta_none, "metahpo"),
    **{
        f"meta-{name}": Method(samplers.meta_with(surrogate=name), "metahpo", learns=True)
        for name in surrogate_names()
    },
    **{
        f"meta-{name}-none": Method(
            samplers.meta_with(surrogate=name, historyless=True), "metahpo"
        )
        for name in surrogate_names()
    },
    **{
        f"meta-no-{part}": Method(
            samplers.ablated(part),
            "metahpo",
            learns=True,
            applies=partial(samplers.has_part, part),
        )
        for part in samplers.ABLATIONS
    },
}
# MetaSampler with weights from a file: one of these names, @, and the file.
WITH_WEIGHTS = ("meta", "meta-none")
ABLATIONS = tuple(f"meta-no-{part}" for part in samplers.ABLATIONS)


def method_named(name: str) -> Method:
    """One of ``METHODS``, or MetaSampler with a file of weights.

    Args:
        name: As in ``METHODS``; or ``meta@FILE`` or ``meta-none@FILE``.

    Raises:
        KeyError: There is no such method.
    """
    kind, _, weights = name.partition("@")
    if not weights:
        return METHODS[name]
    if kind not in WITH_WEIGHTS:
        raise KeyError(name)
    setup = samplers.meta_with(surrogate=weights, historyless=not METHODS[kind].learns)
    return replace(METHODS[kind], setup=setup, available=partial(samplers.check_weights, weights))


def is_historyless(name: str) -> bool:
    """Whether a method ignores the history, and need not be run for another one."""
    method = METHODS.get(name.partition("@")[0])
    return method is not None and not method.learns


@dataclass(frozen=True)
class Run:
    """The outcome of one method on one problem.

    Attributes:
        values: The value of each trial, in order.
        milliseconds: What asking and telling took, for each trial.
        setup_milliseconds: What it took to make ready: reading history, choosing a portfolio.
    """

    values: list[float]
    milliseconds: list[float]
    setup_milliseconds: float


def run(method: str, problem: Problem, history: Sequence[Task], seed: int, n_trials: int) -> Run:
    """One study.

    Args:
        method: As ``method_named`` takes it.
        problem: What is tuned.
        history: Past tasks.
        seed: The method's.
        n_trials: How many trials.

    Raises:
        NotInstalledError: Where the method's package is missing.
    """
    begin = time.perf_counter()
    peer = started(method, problem, history, seed, n_trials)
    setup = time.perf_counter() - begin
    try:
        trials = [timed_trial(peer, problem) for _ in range(n_trials)]
    finally:
        peer.close()
    return Run([v for v, _ in trials], [ms for _, ms in trials], 1000 * setup)


def started(
    method: str, problem: Problem, history: Sequence[Task], seed: int, n_trials: int
) -> Peer:
    """The method, ready for its first trial. Arguments and errors are those of ``run``."""
    found = method_named(method)
    found.available()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return found.setup(problem, history, seed, n_trials)


def timed_trial(peer: Peer, problem: Problem) -> tuple[float, float]:
    """The value of one more trial, and the milliseconds that the method took."""
    begin = time.perf_counter()
    configuration = peer.ask()
    suggested = time.perf_counter()
    value = float(problem.evaluate([configuration])[0])
    evaluated = time.perf_counter()
    peer.tell(configuration, value)
    end = time.perf_counter()
    return value, 1000 * (suggested - begin + end - evaluated)
