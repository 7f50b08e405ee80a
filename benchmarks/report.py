"""Tables and regret curves from the results of ``benchmarks.run``.

    python -m benchmarks.report runs.jsonl more.jsonl --markdown report.md --plot curves.png

A family's figures use the (task, seed) pairs that all its methods have completed, so that
results of a part of the runs compare like with like. Regrets are means over seeds, then over
tasks; intervals are 95% bootstrap intervals over tasks.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from benchmarks.peers import HISTORYLESS, METHODS
from benchmarks.run import read_records
from metahpo.space import Array

POINTS = (1, 3, 5, 10, 20, 30, 50)
RESAMPLES = 10_000
POOLED = "all families"
OURS = "meta"

Pair = tuple[str, int]


@dataclass(frozen=True)
class Group:
    """The methods compared on one family, over the pairs that all of them completed.

    Attributes:
        methods: Labels, in the order of ``METHODS``.
        tasks: The task of each pair.
        regrets: methods x pairs x trials, the best so far.
        milliseconds: What asking and telling took, mean over trials, by method.
    """

    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    regrets: Array
    milliseconds: tuple[float, ...]

    @property
    def by_task(self) -> Array:
        """Mean over seeds: methods x tasks x trials."""
        names = np.array(self.tasks)
        means = [self.regrets[:, names == task].mean(axis=1) for task in dict.fromkeys(self.tasks)]
        return np.stack(means, axis=1)

    @property
    def ranks(self) -> Array:
        """Mean rank over pairs, 1 is best: methods x trials."""
        return rankdata(self.regrets, axis=0).mean(axis=1)


# ---- reading -------------------------------------------------------------------------------


def label(record: Mapping[str, Any]) -> str:
    """The method, with its history where that is not the usual one."""
    usual = "none" if record["method"] in HISTORYLESS else "good"
    shown = record["history"]
    return record["method"] if shown == usual else f"{record['method']} ({shown})"


def group(records: Iterable[Mapping[str, Any]]) -> dict[str, Group]:
    """Groups by family, and the pooled one where there are several."""
    runs: dict[str, dict[str, dict[Pair, Mapping[str, Any]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for record in records:
        pair = f"{record['family']}/{record['task']}", record["seed"]
        runs[record["family"]][label(record)][pair] = record
    groups = {family: _compare(methods) for family, methods in runs.items()}
    groups = {family: g for family, g in groups.items() if g.tasks}
    return groups | _pool(list(groups.values()))


def _compare(runs: Mapping[str, Mapping[Pair, Mapping[str, Any]]]) -> Group:
    methods = sorted(runs, key=_order)
    pairs = sorted(set.intersection(*(set(runs[method]) for method in methods)))
    chosen = [[runs[method][pair] for pair in pairs] for method in methods]
    trials = min((len(r["regrets"]) for row in chosen for r in row), default=0)
    regrets = [[record["regrets"][:trials] for record in row] for row in chosen]
    return Group(
        methods=tuple(methods),
        tasks=tuple(task for task, _ in pairs),
        regrets=np.array(regrets, float).reshape(len(methods), len(pairs), trials),
        milliseconds=tuple(
            float(np.mean([r["milliseconds"] for r in row])) if row else np.nan for row in chosen
        ),
    )


def _order(shown: str) -> tuple[int, str]:
    return list(METHODS).index(shown.split(" ")[0]), shown


def _pool(groups: Sequence[Group]) -> dict[str, Group]:
    """All pairs together, for the methods that every family has."""
    if len(groups) < 2:
        return {}
    shared = [m for m in groups[0].methods if all(m in g.methods for g in groups)]
    trials = min(g.regrets.shape[2] for g in groups)
    rows = [[g.methods.index(method) for method in shared] for g in groups]
    pooled = Group(
        methods=tuple(shared),
        tasks=tuple(task for g in groups for task in g.tasks),
        regrets=np.concatenate(
            [g.regrets[r, :, :trials] for g, r in zip(groups, rows, strict=True)], axis=1
        ),
        milliseconds=tuple(
            float(np.mean([g.milliseconds[g.methods.index(m)] for g in groups])) for m in shared
        ),
    )
    return {POOLED: pooled} if shared else {}


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


def ratios(compared: Group, points: Sequence[int]) -> list[tuple[str, float, float, float]]:
    """Our regret over the best peer's, at each point.

    Returns:
        The peer that is best there, the ratio, and the ends of its bootstrap interval (tasks
        drawn for both alike).
    """
    peers = [i for i, m in enumerate(compared.methods) if not m.startswith(OURS)]
    ours = compared.methods.index(OURS)
    rows = []
    for point in points:
        at = compared.by_task[:, :, point - 1 : point]
        best = min(peers, key=lambda i: at[i].mean())
        means = _resampled_means(at[[ours, best]])[:, :, 0]
        low, high = np.quantile(means[:, 0] / np.maximum(means[:, 1], 1e-12), [0.025, 0.975])
        ratio = at[ours].mean() / max(at[best].mean(), 1e-12)
        rows.append((compared.methods[best], float(ratio), float(low), float(high)))
    return rows


# ---- text ----------------------------------------------------------------------------------


def markdown(groups: Mapping[str, Group]) -> str:
    """The whole report."""
    return "\n".join(_section(name, compared) for name, compared in groups.items())


def _section(name: str, compared: Group) -> str:
    points = [point for point in POINTS if point <= compared.regrets.shape[2]]
    tasks = len(set(compared.tasks))
    lines = [
        f"## {name}",
        "",
        f"{tasks} tasks, {len(compared.tasks)} runs a method. Mean normalised regret "
        "[95% interval over tasks] after so many trials; the best is bold.",
        "",
        *_table(["method", *map(str, points), "ms a trial"], _regret_rows(compared, points)),
        "",
        "Average rank:",
        "",
        *_table(["method", *map(str, points)], _rank_rows(compared, points)),
        "",
    ]
    if OURS in compared.methods and any(not m.startswith(OURS) for m in compared.methods):
        lines += [
            f"`{OURS}` against the best peer at each point (regret ratio; below 1 is better):",
            "",
            *_table(["", *map(str, points)], _ratio_rows(compared, points)),
            "",
        ]
    return "\n".join(lines)


def _regret_rows(compared: Group, points: Sequence[int]) -> list[list[str]]:
    at = np.array(points) - 1
    means = compared.by_task.mean(axis=1)[:, at]
    low, high = (ends[:, at] for ends in interval(compared.by_task))
    best = np.isclose(means, means.min(axis=0))
    return [
        [
            method,
            *(
                f"{_bold(f'{means[i, j]:.4f}', best[i, j])} [{low[i, j]:.3f}, {high[i, j]:.3f}]"
                for j in range(len(points))
            ),
            f"{compared.milliseconds[i]:.1f}",
        ]
        for i, method in enumerate(compared.methods)
    ]


def _rank_rows(compared: Group, points: Sequence[int]) -> list[list[str]]:
    ranks = compared.ranks[:, np.array(points) - 1]
    best = np.isclose(ranks, ranks.min(axis=0))
    return [
        [method, *(_bold(f"{rank:.2f}", best[i, j]) for j, rank in enumerate(ranks[i]))]
        for i, method in enumerate(compared.methods)
    ]


def _ratio_rows(compared: Group, points: Sequence[int]) -> list[list[str]]:
    found = ratios(compared, points)
    return [
        ["best peer", *(peer for peer, *_ in found)],
        ["ratio", *(f"{ratio:.2f} [{low:.2f}, {high:.2f}]" for _, ratio, low, high in found)],
    ]


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold else text


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


# ---- plot ----------------------------------------------------------------------------------


def plot(groups: Mapping[str, Group], path: Path) -> None:
    """Regret curves, one panel a group, with the bootstrap intervals as bands."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    figure, axes = plt.subplots(
        1, len(groups), figsize=(4.2 * len(groups), 3.6), squeeze=False, layout="constrained"
    )
    methods = sorted({m for g in groups.values() for m in g.methods}, key=_order)
    colours = {method: f"C{i}" for i, method in enumerate(methods)}
    for axis, (name, compared) in zip(axes[0], groups.items(), strict=True):
        _panel(axis, compared, colours)
        axis.set_title(f"{name} ({len(set(compared.tasks))} tasks)")
    axes[0][0].set_ylabel("mean normalised regret")
    handles = [Line2D([], [], color=colours[m], label=m) for m in methods]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(methods))
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _panel(axis: Any, compared: Group, colours: Mapping[str, str]) -> None:
    means = compared.by_task.mean(axis=1)
    low, high = interval(compared.by_task)
    trials = np.arange(1, means.shape[1] + 1)
    for i, method in enumerate(compared.methods):
        axis.plot(trials, means[i], color=colours[method], lw=2 if method == OURS else 1.2)
        axis.fill_between(trials, low[i], high[i], color=colours[method], alpha=0.08, lw=0)
    axis.set(xlabel="trials", yscale="log", xlim=(1, trials[-1]))
    axis.grid(alpha=0.3)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--methods", nargs="+", help="only these labels")
    parser.add_argument("--split", choices=("history", "validation"), help="only this split")
    parser.add_argument("--markdown", type=Path, help="write the tables here, too")
    parser.add_argument("--plot", type=Path, help="write the curves here")
    return parser.parse_args(arguments)


def main(argv: list[str] | None = None) -> int:
    """Print the report."""
    arguments = parse(argv)
    records = [
        record
        for path in arguments.files
        for record in read_records(path)
        if arguments.split in (None, record["split"])
        and (not arguments.methods or label(record) in arguments.methods)
    ]
    groups = group(records)
    if not groups:
        print("no (task, seed) pair was completed by all methods yet", file=sys.stderr)
        return 1
    text = markdown(groups)
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text)
    if arguments.plot:
        plot(groups, arguments.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
