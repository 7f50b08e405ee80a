"""Figures from the results of runs: what the tables and plots show.

A family's figures use the (task, seed) pairs that all its methods have completed, so that
results of a part of the runs compare like with like. Regrets are means over seeds, then over
tasks; intervals are 95% bootstrap intervals over tasks.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks.peers import METHODS, is_historyless
from benchmarks.problems import Bounds
from metahpo.tasks.space import Array

RESAMPLES = 10_000
POOLED = "all families"
OURS, NO_HISTORY = "meta", "meta-none"
# Regrets are kept with six digits.
TIE = 1e-6

Record = Mapping[str, Any]
Pair = tuple[str, int]


@dataclass(frozen=True)
class Group:
    """The methods compared on one family, over the pairs that all of them completed.

    Attributes:
        methods: Labels, in the order of ``METHODS``.
        tasks: The task of each pair.
        regrets: methods x pairs x trials, the best so far.
        milliseconds: Time of ask and tell, mean over trials, by method.
        seconds: Time of a run without its evaluations, mean over pairs, by method.
        cpu_seconds: Processor time of a run, evaluations included; NaN where not known.
        megabytes: Largest peak memory of a worker, by method; NaN where not known.
    """

    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    regrets: Array
    milliseconds: tuple[float, ...]
    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    megabytes: tuple[float, ...]

    @property
    def by_task(self) -> Array:
        """Mean regret over seeds: methods x tasks x trials."""
        return self._task_means(self.regrets)

    @property
    def ranks(self) -> Array:
        """Rank among the methods, 1 is best, mean over seeds: methods x tasks x trials."""
        return self._task_means(rankdata(self.regrets, axis=0))

    def only(self, methods: Sequence[str]) -> Group:
        """The group of some of the methods, in their own order."""
        rows = [self.methods.index(method) for method in methods]
        return replace(
            self,
            methods=tuple(methods),
            regrets=self.regrets[rows],
            milliseconds=tuple(self.milliseconds[i] for i in rows),
            seconds=tuple(self.seconds[i] for i in rows),
            cpu_seconds=tuple(self.cpu_seconds[i] for i in rows),
            megabytes=tuple(self.megabytes[i] for i in rows),
        )

    def _task_means(self, figures: Array) -> Array:
        names = np.array(self.tasks)
        means = [figures[:, names == task].mean(axis=1) for task in dict.fromkeys(self.tasks)]
        return np.stack(means, axis=1)


# ---- grouping ------------------------------------------------------------------------------


def label(record: Record) -> str:
    """Return the method, with its history if that is not the usual one."""
    usual = "none" if is_historyless(record["method"]) else "good"
    shown = record["history"]
    return record["method"] if shown == usual else f"{record['method']} ({shown})"


def order(shown: str) -> tuple[int, str]:
    """Sort key of labels: the order of ``METHODS``, unknown ones last."""
    method, known = shown.split(" ")[0], list(METHODS)
    return (known.index(method) if method in known else len(known)), shown


def is_ours(shown: str) -> bool:
    """Whether a label is one of MetaSampler's."""
    return re.split("[-@ ]", shown)[0] == OURS


def group(records: Iterable[Record]) -> dict[str, Group]:
    """Return the groups by family, and the pooled one if there are several."""
    runs: dict[str, dict[str, dict[Pair, Record]]] = defaultdict(lambda: defaultdict(dict))
    for record in with_common_bounds(list(records)):
        pair = f"{record['family']}/{record['task']}", record["seed"]
        runs[record["family"]][label(record)][pair] = record
    groups = {family: _compare(methods) for family, methods in runs.items()}
    groups = {family: g for family, g in groups.items() if g.tasks}
    return groups | _pool(list(groups.values()))


def with_common_bounds(records: Sequence[Record]) -> list[Record]:
    """Regrets of live trainings against the best value that any run found."""
    best: dict[tuple[str, str], float] = {}
    for record in records:
        if not _exact(record):
            task = record["family"], record["task"]
            found = max(record["bounds"]["best"], *record["values"])
            best[task] = max(best.get(task, found), found)
    return [
        record if _exact(record) else _normalised(record, best[record["family"], record["task"]])
        for record in records
    ]


def _exact(record: Record) -> bool:
    return record.get("bounds", {}).get("exact", True)


def _normalised(record: Record, best: float) -> Record:
    bounds = Bounds(best, record["bounds"]["worst"])
    so_far = np.maximum.accumulate(record["values"])
    return {**record, "regrets": bounds.regret(so_far).tolist()}


def _compare(runs: Mapping[str, Mapping[Pair, Record]]) -> Group:
    methods = sorted(runs, key=order)
    pairs = sorted(set.intersection(*(set(runs[method]) for method in methods)))
    chosen = [[runs[method][pair] for pair in pairs] for method in methods]
    trials = min((len(r["regrets"]) for row in chosen for r in row), default=0)
    regrets = [[record["regrets"][:trials] for record in row] for row in chosen]
    return Group(
        methods=tuple(methods),
        tasks=tuple(task for task, _ in pairs),
        regrets=np.array(regrets, float).reshape(len(methods), len(pairs), trials),
        milliseconds=_by_method(chosen, lambda r: float(np.mean(r["milliseconds"])), np.mean),
        seconds=_by_method(chosen, _seconds, np.mean),
        cpu_seconds=_by_method(chosen, lambda r: r.get("cpu_seconds", np.nan), np.mean),
        megabytes=_by_method(chosen, lambda r: r.get("peak_megabytes") or np.nan, np.max),
    )


def _seconds(record: Record) -> float:
    return (record.get("setup_milliseconds", 0.0) + sum(record["milliseconds"])) / 1000


def _by_method(chosen: Any, figure: Any, summary: Any) -> tuple[float, ...]:
    return tuple(float(summary([figure(r) for r in row])) if row else np.nan for row in chosen)


def _pool(groups: Sequence[Group]) -> dict[str, Group]:
    """All pairs together, for the methods that every family has."""
    if len(groups) < 2:
        return {}
    shared = [m for m in groups[0].methods if all(m in g.methods for g in groups)]
    if not shared:
        return {}
    parts = [g.only(shared) for g in groups]
    trials = min(g.regrets.shape[2] for g in parts)
    pooled = Group(
        methods=tuple(shared),
        tasks=tuple(task for g in parts for task in g.tasks),
        regrets=np.concatenate([g.regrets[:, :, :trials] for g in parts], axis=1),
        milliseconds=tuple(np.mean([g.milliseconds for g in parts], axis=0).tolist()),
        seconds=tuple(np.mean([g.seconds for g in parts], axis=0).tolist()),
        cpu_seconds=tuple(np.mean([g.cpu_seconds for g in parts], axis=0).tolist()),
        megabytes=tuple(np.max([g.megabytes for g in parts], axis=0).tolist()),
    )
    return {POOLED: pooled}


# ---- figures -------------------------------------------------------------------------------


def interval(by_task: Array) -> tuple[Array, Array]:
    """95% bootstrap interval of the mean over tasks.

    Args:
        by_task: ... x tasks x trials.

    Returns:
        Lower and upper end, ... x trials each.
    """
    low, high = np.quantile(_resampled_means(by_task), [0.025, 0.975], axis=0)
    return low, high


def _resampled_means(by_task: Array) -> Array:
    """Means over tasks drawn with replacement: resamples x ... x trials."""
    n = by_task.shape[-2]
    rng = np.random.default_rng(0)
    counts = rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    return np.asarray(np.tensordot(counts, by_task, axes=(1, by_task.ndim - 2)), float)


@dataclass(frozen=True)
class Versus:
    """Our regret beside that of the best peer after so many trials.

    Attributes:
        trials: After so many.
        peer: The peer that is best there.
        ours: Our mean regret.
        theirs: The peer's.
        low: Lower end of the 95% interval of the ratio, tasks drawn for both alike.
        high: Its upper end.
        tasks_behind: Share of the tasks on which the peer is ahead.
    """

    trials: int
    peer: str
    ours: float
    theirs: float
    low: float
    high: float
    tasks_behind: float

    @property
    def ratio(self) -> float:
        """Our regret over the peer's; below 1 we are ahead."""
        return self.ours / max(self.theirs, 1e-12)


def against_best_peer(compared: Group, points: Sequence[int]) -> list[Versus]:
    """Our regret beside the best peer's, at each point."""
    return against(compared, OURS, [m for m in compared.methods if not is_ours(m)], points)


def against(
    compared: Group, ours: str, others: Sequence[str], points: Sequence[int]
) -> list[Versus]:
    """A method's regret beside that of the best of others, at each point."""
    peers = [compared.methods.index(method) for method in others]
    mine = compared.methods.index(ours)
    rows = []
    for point in points:
        at = compared.by_task[:, :, point - 1]
        best = min(peers, key=lambda i: at[i].mean())
        means = _resampled_means(at[[mine, best]][:, :, None])[:, :, 0]
        low, high = np.quantile(means[:, 0] / np.maximum(means[:, 1], 1e-12), [0.025, 0.975])
        rows.append(
            Versus(
                trials=point,
                peer=compared.methods[best],
                ours=float(at[mine].mean()),
                theirs=float(at[best].mean()),
                low=float(low),
                high=float(high),
                tasks_behind=float(np.mean(at[mine] > at[best] + TIE)),
            )
        )
    return rows


def trials_to_reach(compared: Group, reference: str = "tpe") -> list[tuple[float, float]]:
    """Trials needed to reach the final regret of another method.

    Returns:
        For each method the median over pairs (infinite if half of them never get there), and the
        share of pairs that do.
    """
    goal = compared.regrets[compared.methods.index(reference)][:, -1]
    reached = compared.regrets <= goal[None, :, None] + TIE
    first = np.where(reached.any(axis=2), reached.argmax(axis=2) + 1.0, np.inf)
    medians = np.quantile(first, 0.5, axis=1, method="higher")
    shares = np.isfinite(first).mean(axis=1)
    return list(zip(medians.tolist(), shares.tolist(), strict=True))


def share_worse(compared: Group, points: Sequence[int], reference: str = "gp") -> Array:
    """Share of pairs with a larger regret than another method's: methods x points."""
    at = compared.regrets[:, :, np.array(points) - 1]
    return (at > at[compared.methods.index(reference)] + TIE).mean(axis=1)
