"""Figures of compared methods: regret curves, and what MetaSampler's parts are worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import style
from benchmarks.compare import NO_HISTORY, OURS, Group, interval, is_ours, order
from benchmarks.style import Line

# Drawn beside MetaSampler; what else was compared is in the line of the best of them.
PEERS = ("tpe", "gp", "rgpe")
TICKS = (1, 2, 3, 5, 10, 20, 30, 50)
NAMES = {
    OURS: "MetaSampler",
    NO_HISTORY: "MetaSampler, no history",
    "tpe": "TPE",
    "gp": "GPSampler",
    "rgpe": "RGPE",
}


def regret_curves(compared: Group, path: Path) -> None:
    """Draw mean regret by trials: MetaSampler, some peers, and the best peer at each trial.

    MetaSampler's band is the 95% bootstrap interval over tasks.
    """
    means = compared.by_task.mean(axis=1)
    low, high = interval(compared.by_task)
    trials = np.arange(1, means.shape[1] + 1)
    lines = []
    for method in (OURS, NO_HISTORY, *PEERS):
        if method in compared.methods:
            i = compared.methods.index(method)
            band = (low[i], high[i]) if method == OURS else None
            lines.append(Line(NAMES[method], trials, means[i], is_ours(method), band))
    peers = [i for i, method in enumerate(compared.methods) if not is_ours(method)]
    if peers:
        label = f"best of the {len(peers)} peers"
        lines.append(Line(label, trials, means[peers].min(axis=0)))
    figure, (axis,) = style.new_figure()
    axis.set(
        xlabel="trials",
        ylabel="mean normalised regret (lower is better)",
        xscale="log",
        yscale="log",
        title=f"{len(set(compared.tasks))} tasks, {len(compared.tasks)} runs a method",
    )
    style.draw_lines(axis, lines)
    style.plain_ticks(axis.xaxis, [t for t in TICKS if t <= len(trials)])
    style.plain_ticks(axis.yaxis)
    style.save(figure, path)


def ablation_bars(compared: Group, points: Sequence[int], path: Path) -> None:
    """Draw mean regret of MetaSampler and of it without one of its parts."""
    methods = sorted(compared.methods, key=order)
    figure, axes = style.new_figure(len(points))
    means = compared.by_task.mean(axis=1)
    low, high = interval(compared.by_task)
    for axis, point in zip(axes, points, strict=True):
        rows = [compared.methods.index(method) for method in methods]
        heights = means[rows, point - 1]
        errors = [heights - low[rows, point - 1], high[rows, point - 1] - heights]
        colours = [style.OURS if method == OURS else style.PALE for method in methods]
        axis.barh(methods, heights, xerr=np.maximum(errors, 0.0), color=colours,
                  ecolor=style.MUTED[0], zorder=2)  # fmt: skip
        axis.set(title=f"{point} trials", xlabel="mean regret")
        axis.xaxis.set_major_locator(style.few_ticks())
    axes[0].invert_yaxis()
    figure.subplots_adjust(left=0.22, right=0.97, top=0.92, bottom=0.14, wspace=0.12)
    style.save(figure, path)
