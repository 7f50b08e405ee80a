"""Plots of compared methods: regret curves, and what MetaSampler's parts are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare import OURS, Group, interval, is_ours, order

COLUMNS = 3


def regret_curves(groups: Mapping[str, Group], path: Path) -> None:
    """Mean regret by trials, one panel a group, with the bootstrap intervals as bands."""
    figure, axes, plt = panels(len(groups))
    methods = sorted({m for g in groups.values() for m in g.methods}, key=order)
    colours = dict(zip(methods, colour_list(len(methods)), strict=True))
    for axis, (name, compared) in zip(axes, groups.items(), strict=False):
        _curves(axis, compared, colours)
        axis.set_title(f"{name} ({len(set(compared.tasks))} tasks)")
    axes[0].set_ylabel("mean normalised regret")
    legend(figure, methods, colours)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def ablation_bars(groups: Mapping[str, Group], points: Sequence[int], path: Path) -> None:
    """Mean regret of MetaSampler and of it without its parts, one panel a group."""
    figure, axes, plt = panels(len(groups))
    methods = sorted({m for g in groups.values() for m in g.methods}, key=order)
    colours = dict(zip(methods, colour_list(len(methods)), strict=True))
    for axis, (name, compared) in zip(axes, groups.items(), strict=False):
        _bars(axis, compared, points, colours)
        axis.set_title(f"{name} ({len(set(compared.tasks))} tasks)")
    axes[0].set_ylabel("mean normalised regret")
    legend(figure, methods, colours)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def panels(count: int) -> tuple[Any, list[Any], Any]:
    """A figure, so many axes on it, and pyplot."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    size = 4.2 * columns, 3.4 * rows + 0.6
    figure, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    axes = list(grid.flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes, plt


def colour_list(count: int) -> list[Any]:
    """So many colours that can be told apart."""
    import matplotlib as mpl

    return [mpl.colormaps["tab20"](i % 20) for i in range(count)]


def legend(figure: Any, methods: Sequence[str], colours: Mapping[str, Any]) -> None:
    """One for the whole figure, below it."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colours[m], label=m, lw=2) for m in methods]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(methods), 6))


def _curves(axis: Any, compared: Group, colours: Mapping[str, Any]) -> None:
    means = compared.by_task.mean(axis=1)
    low, high = interval(compared.by_task)
    trials = np.arange(1, means.shape[1] + 1)
    for i, method in enumerate(compared.methods):
        style = {"lw": 2.4 if method == OURS else 1.1, "ls": "-" if is_ours(method) else "--"}
        axis.plot(trials, means[i], color=colours[method], **style)
        axis.fill_between(trials, low[i], high[i], color=colours[method], alpha=0.07, lw=0)
    axis.set(xlabel="trials", yscale="log", xlim=(1, trials[-1]))
    axis.grid(alpha=0.3)


def _bars(axis: Any, compared: Group, points: Sequence[int], colours: Mapping[str, Any]) -> None:
    columns = np.array(points, int) - 1
    means = compared.by_task.mean(axis=1)[:, columns]
    low, high = (ends[:, columns] for ends in interval(compared.by_task))
    width = 0.8 / len(compared.methods)
    for i, method in enumerate(compared.methods):
        places = np.arange(len(points)) + (i - (len(compared.methods) - 1) / 2) * width
        errors = np.maximum([means[i] - low[i], high[i] - means[i]], 0.0)
        axis.bar(places, means[i], width, yerr=errors, color=colours[method],
                 error_kw={"lw": 0.8, "alpha": 0.6})  # fmt: skip
    axis.set_xticks(np.arange(len(points)), [str(point) for point in points])
    axis.set(xlabel="trials")
    axis.grid(alpha=0.3, axis="y")
