"""Figures of recommendations: the meta-features that decided, and the past tasks behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from metahpo.plots.figure_style import (
    HIGHLIGHT,
    MUTED,
    configuration_text,
    graph_objects,
    rows_height,
    styled,
)
from metahpo.recommendation import Recommendations

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Most bars in a figure.
MAX_BARS = 20
# Vertical distance over which the marks of one past task are spread; rows are 1 apart.
SPREAD = 0.7


def plot_metafeatures(recommendations: Recommendations) -> go.Figure:
    """Show the importance of each meta-feature, most important first.

    The bars that together make half of the importance are highlighted.

    Raises:
        ImportError: plotly is not installed.
    """
    go = graph_objects()
    shown = recommendations.metafeatures[:MAX_BARS]
    names, shares = [name for name, _ in shown], np.array([share for _, share in shown])
    before = np.cumsum(shares) - shares
    bars = go.Bar(
        x=shares,
        y=names,
        orientation="h",
        marker_color=[HIGHLIGHT if total < 0.5 else MUTED for total in before],
        text=[f"{share:.0%}" if share >= 0.01 else "<1%" for share in shares],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.1%}<extra></extra>",
    )
    figure = go.Figure(bars)
    figure.update_xaxes(tickformat=".0%", title="share of the importance", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    if not shown:
        figure.update_xaxes(visible=False)
        figure.update_yaxes(visible=False)
    title = "Meta-features that decided which past tasks count"
    return styled(figure, title, _importance_note(recommendations), rows_height(len(shown)))


def _importance_note(recommendations: Recommendations) -> str:
    method, count = recommendations.method, len(recommendations.metafeatures)
    if not count:
        return f"none: the method {method!r} does not weigh meta-features"
    note = f"method {method!r}; highlighted: the first half of the importance"
    return f"{note}; {count - MAX_BARS} more not shown" if count > MAX_BARS else note


def plot_provenance(recommendations: Recommendations) -> go.Figure:
    """Show how each recommendation scored on the past tasks with the largest weights.

    One row per past task, one numbered mark per recommendation; the first is highlighted.

    Raises:
        ImportError: plotly is not installed.
    """
    go = graph_objects()
    weights = {e.task: e.weight for item in recommendations for e in item.evidence}
    tasks = sorted(weights, key=lambda task: -weights[task])
    offsets = SPREAD * ((np.arange(len(recommendations)) + 0.5) / len(recommendations) - 0.5)
    figure = go.Figure()
    # The first recommendation last, so that it is drawn on top.
    for number, item in reversed(list(enumerate(recommendations, start=1))):
        first = number == 1
        figure.add_scatter(
            x=[evidence.score for evidence in item.evidence],
            y=[tasks.index(e.task) + offsets[number - 1] for e in item.evidence],
            mode="markers+text",
            name=f"recommendation {number}",
            marker={"size": 20, "color": HIGHLIGHT if first else MUTED},
            text=[str(number)] * len(item.evidence),
            textfont={"color": "white" if first else "black", "size": 12},
            hovertext=f"recommendation {number}<br>" + configuration_text(item.configuration),
            hoverinfo="text+x",
        )
    labels = [f"{task}  (weight {weights[task]:.2f})" for task in tasks]
    figure.update_yaxes(
        tickvals=list(range(len(tasks))), ticktext=labels, range=[len(tasks) - 0.4, -0.6]
    )
    title = "score on the past task (0: its worst candidate, 1: its best)"
    figure.update_xaxes(range=[-0.05, 1.05], title=title)
    subtitle = "one row per past task, one number per recommendation; highlighted: the first"
    height = rows_height(len(tasks) * max(2, len(recommendations) // 2 + 1))
    return styled(figure, "Where the recommendations come from", subtitle, height)
