"""Figure: past tasks and the new one on a map of their meta-features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from metahpo.plots.figure_style import HIGHLIGHT, MUTED, graph_objects, styled, value_text
from metahpo.similarity import Standardiser
from metahpo.tasks.space import Array
from metahpo.tasks.task import Task

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Past tasks whose names are shown: the nearest ones on the map.
LABELLED = 5


def plot_task_map(
    past: Sequence[Task], metafeatures: Mapping[str, float] | None = None
) -> go.Figure:
    """Map past tasks and the new one by the two principal components of their meta-features.

    The new task is highlighted, and the past tasks nearest to it on the map are named.

    Args:
        past: t past tasks.
        metafeatures: Meta-features of the new task; None for a map of the past tasks alone.

    Raises:
        ImportError: plotly is not installed.
        ValueError: There are fewer than three past tasks, or no meta-feature differs among them.
    """
    go = graph_objects()
    standardiser = Standardiser([task.metafeatures for task in past])
    if len(past) < 3 or not standardiser.names:
        raise ValueError("a map needs at least three past tasks whose meta-features differ")
    table = np.nan_to_num(standardiser.table)
    directions, explained = _principal_components(table)
    positions = table @ directions
    figure = go.Figure(_past_tasks(go, past, positions))
    shown, subtitle = positions, f"{len(past)} past tasks"
    if metafeatures is not None:
        new = np.nan_to_num(standardiser(metafeatures)) @ directions
        shown = np.vstack([positions, new])
        nearest = np.argsort(np.linalg.norm(positions - new, axis=1), kind="stable")[:LABELLED]
        figure.add_trace(_names(go, [past[i].name for i in nearest], positions[nearest], new))
        figure.add_trace(_new_task(go, new))
        subtitle += ", the new task, and the names of the past tasks nearest to it"
    figure.update_xaxes(range=_range_with_room(shown[:, 0]))
    for axis, name, share in zip("xy", ("first", "second"), explained, strict=True):
        title = f"{name} principal component ({share:.0%} of the variance)"
        figure.update_layout({f"{axis}axis_title": title})
    return styled(figure, "Tasks by their meta-features", subtitle, height=560)


def _range_with_room(x: Array) -> list[float]:
    """The range of x values (n), with room for names on both sides."""
    margin = 0.15 * float(np.ptp(x)) or 1.0
    return [float(x.min()) - margin, float(x.max()) + margin]


def _past_tasks(go, past: Sequence[Task], positions: Array) -> go.Scatter:
    best = [_best_value(task) for task in past]
    return go.Scatter(
        x=positions[:, 0],
        y=positions[:, 1],
        mode="markers",
        name="past tasks",
        marker={"color": MUTED, "size": 9, "line": {"color": "white", "width": 1}},
        text=[
            f"{task.name}<br>best value {value}" for task, value in zip(past, best, strict=True)
        ],
        hoverinfo="text",
    )


def _best_value(task: Task) -> str:
    best = task.best
    return "none" if best is None or best.value is None else value_text(best.value)


def _names(go, names: list[str], positions: Array, new: Array) -> go.Scatter:
    # On the side away from the new task, so that no name is hidden by it.
    sides = ["middle left" if x < new[0] else "middle right" for x in positions[:, 0]]
    return go.Scatter(
        x=positions[:, 0],
        y=positions[:, 1],
        mode="markers+text",
        name="nearest past tasks",
        marker={"color": MUTED, "size": 9, "line": {"color": HIGHLIGHT, "width": 2}},
        text=names,
        textposition=sides,
        hoverinfo="skip",
    )


def _new_task(go, position: Array) -> go.Scatter:
    return go.Scatter(
        x=[position[0]],
        y=[position[1]],
        mode="markers+text",
        name="new task",
        marker={"symbol": "star", "size": 18, "color": HIGHLIGHT},
        text=["<b>new task</b>"],
        textposition="top center",
        textfont={"color": HIGHLIGHT},
        hoverinfo="text",
    )


def _principal_components(table: Array) -> tuple[Array, Array]:
    """Directions (``F x 2``, largest entry of each positive) and shares of the variance (2)."""
    directions, shares = np.zeros((table.shape[1], 2)), np.zeros(2)
    _, singular, vectors = np.linalg.svd(table - table.mean(axis=0), full_matrices=False)
    leading = vectors[:2].T
    found = leading.shape[1]
    signs = np.sign(np.take_along_axis(leading, np.abs(leading).argmax(axis=0)[None], axis=0))
    directions[:, :found] = leading * signs
    shares[:found] = (singular**2 / (singular**2).sum())[:2]
    return directions, shares
