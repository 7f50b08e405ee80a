"""Figures of recorded decisions and recommendations (plotly). Compute nothing new but layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from metahpo.recommendation.recommend import Recommendations
from metahpo.similarity import Standardiser
from metahpo.suggest.decision import Decision, Part
from metahpo.tasks.space import Array, Space
from metahpo.tasks.task import Task

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Bars of a figure, and a hyperparameter's range.
SHOWN = 20


def plot_task_map(
    past: Sequence[Task], metafeatures: Mapping[str, float] | None = None
) -> go.Figure:
    """Past tasks and the new one in the two principal directions of their meta-features.

    Args:
        past: t tasks.
        metafeatures: The new task's.

    Raises:
        ImportError: Without plotly.
        ValueError: Where fewer than three tasks have meta-features that vary.
    """
    go = _plotly()
    standardiser = Standardiser([task.metafeatures for task in past])
    if len(past) < 3 or not standardiser.names:
        raise ValueError("a map needs at least three past tasks whose meta-features differ")
    table = np.nan_to_num(standardiser.table)
    directions = _directions(table)
    places = table @ directions
    best = [max((t.value for t in task.observed if t.value is not None), default=None)
            for task in past]  # fmt: skip
    figure = go.Figure(
        go.Scatter(
            x=places[:, 0],
            y=places[:, 1],
            mode="markers",
            name="past tasks",
            text=[f"{task.name}<br>best {value}" for task, value in zip(past, best, strict=True)],
            hoverinfo="text",
        )
    )
    if metafeatures is not None:
        x, y = np.nan_to_num(standardiser(metafeatures)) @ directions
        marker = {"symbol": "star", "size": 14}
        figure.add_scatter(x=[x], y=[y], mode="markers", name="new task", marker=marker)
    return figure.update_layout(
        title="Tasks by their meta-features",
        xaxis_title="first principal component",
        yaxis_title="second principal component",
    )


def plot_metafeatures(recommendations: Recommendations) -> go.Figure:
    """The meta-features that decided, with their shares.

    Raises:
        ImportError: Without plotly.
    """
    go = _plotly()
    shown = recommendations.metafeatures[:SHOWN][::-1]
    figure = go.Figure(
        go.Bar(x=[share for _, share in shown], y=[name for name, _ in shown], orientation="h")
    )
    return figure.update_layout(
        title=f"Meta-features that decided ({recommendations.method})", xaxis_title="share"
    )


def plot_provenance(recommendations: Recommendations) -> go.Figure:
    """Where each recommendation comes from: its performance on the past tasks that count most.

    Raises:
        ImportError: Without plotly.
    """
    go = _plotly()
    figure = go.Figure()
    for number, item in enumerate(recommendations, start=1):
        figure.add_bar(
            name=f"recommendation {number}",
            x=[f"{e.task}<br>weight {e.weight:.3f}" for e in item.evidence],
            y=[evidence.score for evidence in item.evidence],
            hovertext=str(dict(item.configuration)),
        )
    return figure.update_layout(
        title="Where the recommendations come from",
        yaxis_title="score on the past task (1 is its best)",
        barmode="group",
    )


def plot_hopeless(decision: Decision, space: Space) -> go.Figure:
    """What the surrogate considered hopeless, by hyperparameter, within the whole ranges.

    Args:
        decision: As the policy made it.
        space: The task's space.

    Raises:
        ImportError: Without plotly.
    """
    go = _plotly()
    figure = go.Figure()
    figure.add_bar(x=[1.0] * len(space), y=list(space), orientation="h", name="promising")
    for name, part in decision.hopeless.items():
        for low, high, shown in _shares(part, space, name):
            figure.add_bar(
                x=[high - low], y=[name], base=[low], orientation="h", name="hopeless",
                hovertext=[shown],
            )  # fmt: skip
    return figure.update_layout(
        title="What the surrogate considers hopeless", barmode="overlay",
        xaxis_title="position in the range",
    )  # fmt: skip


def _shares(part: Part, space: Space, name: str) -> list[tuple[float, float, str]]:
    """Low and high of each hopeless part, as shares of the range, and its text."""
    alone = Space({name: space.distributions[name]})
    if alone.is_categorical[0]:
        half = 0.5 / alone.levels[0]
        middles = alone.encode([{name: choice} for choice in part])[:, 0]
        return [(m - half, m + half, repr(c)) for m, c in zip(middles, part, strict=True)]
    ends = [alone.encode([{name: low}, {name: high}])[:, 0] for low, high in part]
    return [
        (a, b, f"{low:.4g} to {high:.4g}") for (a, b), (low, high) in zip(ends, part, strict=True)
    ]


def _directions(table: Array) -> Array:
    """F x 2 principal directions, the largest entry of each made positive."""
    found = np.zeros((table.shape[1], 2))
    vectors = np.linalg.svd(table - table.mean(axis=0), full_matrices=False)[2][:2].T
    found[:, : vectors.shape[1]] = vectors * np.sign(
        np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    )
    return found


def _plotly():
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise ImportError("plots need plotly: pip install 'metahpo[plots]'") from None
    return go
