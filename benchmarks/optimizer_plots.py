"""Loss curves of the optimizers compared, as one mean over all tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import style
from benchmarks.style import Line

# The share of a training over which its losses are averaged: single points are noise.
SMOOTHED = 0.05
OURS, BASE = "learned", "adamw best of 8"
DRAWN = {
    OURS: "learned optimizer",
    BASE: "AdamW, best of 8 rates",
    "adamw": "AdamW",
    "schedulefree": "AdamWScheduleFree",
    "prodigy": "Prodigy",
    "muon": "Muon",
}

Record = dict[str, Any]
# task -> seed -> method -> record
Runs = Mapping[str, Mapping[int, Mapping[str, Record]]]


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


def loss_curves(runs: Runs, path: Path, *, held_out: bool = False) -> None:
    """Draw losses relative to where AdamW at its best rate ends, geometric means over tasks.

    Args:
        runs: The records by task, seed and method. Where AdamW's grid was not run, losses are
            relative to the end of the first method drawn.
        path: Of the image.
        held_out: Whether to draw losses of held-out rows instead of minibatches.
    """
    lines = [line for method in DRAWN if (line := _line(runs, method, held_out)) is not None]
    figure, (axis,) = style.new_figure()
    kind = "held-out" if held_out else "training"
    axis.set(
        xlabel="steps",
        ylabel=f"{kind} loss (1: AdamW at its best rate, at the end)",
        yscale="log",
        title=f"Geometric mean over {len(runs)} tasks",
    )
    style.draw_lines(axis, lines)
    style.plain_ticks(axis.yaxis)
    style.save(figure, path)


def _line(runs: Runs, method: str, held_out: bool) -> Line | None:
    """A method's mean curve; None where it was not run."""
    curves = {task: _mean_curve(seeds, method, held_out) for task, seeds in runs.items()}
    found = {task: curve for task, curve in curves.items() if curve is not None}
    if not found:
        return None
    ratios = [losses / _end(runs[task], held_out) for task, (_, losses) in found.items()]
    steps, _ = next(iter(found.values()))
    everywhere = len(found) == len(runs)
    label = DRAWN[method] if everywhere else f"{DRAWN[method]} ({len(found)} tasks)"
    return Line(label, steps, np.exp(np.mean(np.log(ratios), axis=0)), method == OURS)


def _mean_curve(
    seeds: Mapping[int, Mapping[str, Record]], method: str, held_out: bool
) -> tuple[list[float], np.ndarray] | None:
    """Steps and losses of a task, means over seeds."""
    curve = held_out_curve if held_out else training_curve
    found = [curve(run[method]) for run in seeds.values() if method in run]
    if not found:
        return None
    return found[0][0], np.mean([losses for _, losses in found], axis=0)


def _end(seeds: Mapping[int, Mapping[str, Record]], held_out: bool) -> float:
    """The loss with which a task's base of comparison ends."""
    curves = (_mean_curve(seeds, method, held_out) for method in (BASE, *DRAWN))
    _, losses = next(curve for curve in curves if curve is not None)
    return float(losses[-1])
