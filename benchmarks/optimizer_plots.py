"""Loss curves of the optimizers compared: one panel a task, means over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plots import colour_list, legend, panels

# The share of a training over which its losses are averaged: single points are noise.
SMOOTHED = 0.05

Record = dict[str, Any]


def training_curve(record: Record) -> tuple[list[float], list[float]]:
    """Steps and smoothed losses on the minibatches."""
    losses = np.array(record["losses"], float)
    window = max(1, round(SMOOTHED * len(losses)))
    smooth = np.convolve(losses, np.full(window, 1 / window), "valid")
    steps = record["every"] * (window + np.arange(len(smooth)))
    return steps.tolist(), smooth.tolist()


def held_out_curve(record: Record) -> tuple[list[float], list[float]]:
    """Steps and losses on held-out rows."""
    steps, losses = zip(*record["held_out"], strict=True)
    return list(steps), list(losses)


def loss_curves(
    runs: Mapping[str, Mapping[int, Mapping[str, Record]]],
    methods: Sequence[str],
    path: Path,
    *,
    held_out: bool = False,
) -> None:
    """Draws them; a training that diverged ends where its losses are no numbers.

    Args:
        runs: Task, seed, method.
        methods: In the legend's order, ours first.
        path: Of the image.
        held_out: Whether of held-out rows instead of minibatches.
    """
    curve = held_out_curve if held_out else training_curve
    figure, axes, plt = panels(len(runs))
    colours = dict(zip(methods, colour_list(len(methods)), strict=True))
    for axis, (task, seeds) in zip(axes, runs.items(), strict=False):
        for method in reversed(methods):
            found = [curve(run[method]) for run in seeds.values() if method in run]
            if found:
                mean = np.mean([losses for _, losses in found], axis=0)
                width = 2.4 if method == methods[0] else 1.1
                axis.plot(found[0][0], mean, color=colours[method], lw=width)
        axis.set(title=task, xlabel="steps", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("held-out loss" if held_out else "training loss")
    legend(figure, methods, colours)
    figure.savefig(path, dpi=100)
    plt.close(figure)
