"""Figure of a decision: the configuration that was chosen, among the trials so far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from metahpo.plots.figure_style import (
    FRAME_HEIGHT,
    HIGHLIGHT,
    MUTED,
    configuration_text,
    graph_objects,
    log_ticks,
    styled,
    value_text,
)
from metahpo.suggest.decision import Decision
from metahpo.tasks.task import Task, Trial

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLUMNS = 2
# Pixels, and how much of a panel its axis and title take.
PANEL_HEIGHT, AXIS_HEIGHT = 220, 70


def plot_decision(decision: Decision, task: Task) -> go.Figure:
    """Show the chosen configuration among the trials so far, one panel per hyperparameter.

    Hyperparameters are in their own units, on a logarithmic axis if their distribution is. The
    trials are muted, and hollow where they are infeasible. The first configuration of the decision
    is highlighted: at its predicted value with one standard deviation, or as a vertical line if
    nothing was predicted.

    Args:
        decision: A decision for the task, with its configurations.
        task: The study in progress.

    Raises:
        ImportError: plotly is not installed.
        ValueError: The decision has no configuration, or the task no hyperparameter.
    """
    go = graph_objects()
    from plotly.subplots import make_subplots

    if not decision.configurations or not len(task.space):
        raise ValueError(
            "nothing to show: the decision needs a configuration and the task a hyperparameter"
        )
    names = task.space.names
    rows = math.ceil(len(names) / COLUMNS)
    spacing = AXIS_HEIGHT / (PANEL_HEIGHT * rows)
    figure = make_subplots(
        rows, COLUMNS, shared_yaxes=True, horizontal_spacing=0.06, vertical_spacing=spacing
    )
    for place, (name, distribution) in enumerate(task.space.distributions.items()):
        row, column = divmod(place, COLUMNS)
        cell: dict[str, Any] = {"row": row + 1, "col": column + 1}
        figure.add_trace(_trials(go, task, name), **cell)
        if name in decision.configurations[0]:
            figure.add_trace(_chosen(go, decision, task, name), **cell)
        figure.update_xaxes(_axis(name, distribution), **cell)
    figure.update_yaxes(title="value (larger is better)", col=1)
    height = FRAME_HEIGHT + PANEL_HEIGHT * rows
    return styled(figure, f"The next trial: {decision.source.value}", decision.reason, height)


def _trials(go, task: Task, name: str) -> go.Scatter:
    trials = [trial for trial in task.observed if name in trial.configuration]
    return go.Scatter(
        x=[_shown(trial.configuration[name], task, name) for trial in trials],
        y=[trial.value for trial in trials],
        mode="markers",
        name="trials",
        marker={
            "color": MUTED,
            "size": 8,
            "symbol": ["circle" if trial.feasible else "circle-open" for trial in trials],
        },
        text=[_described(trial) for trial in trials],
        hoverinfo="text+y",
    )


def _described(trial: Trial) -> str:
    infeasible = "" if trial.feasible else "<br>infeasible"
    return f"{configuration_text(trial.configuration)}{infeasible}"


def _chosen(go, decision: Decision, task: Task, name: str) -> go.Scatter:
    configuration = decision.configurations[0]
    value = _shown(configuration[name], task, name)
    common: dict[str, Any] = {
        "name": "next trial",
        "text": [f"<b>{value_text(value)}</b>"],
        "textfont": {"color": HIGHLIGHT},
        "hovertext": configuration_text(configuration),
        "hoverinfo": "text+y",
        "cliponaxis": False,
    }
    if decision.mean is None:
        values = [trial.value for trial in task.observed if trial.value is not None]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        line = {"color": HIGHLIGHT, "width": 2, "dash": "dot"}
        common["text"] = ["", *common["text"]]
        return go.Scatter(
            x=[value] * 2,
            y=[low, high],
            mode="lines+text",
            line=line,
            textposition="top center",
            **common,
        )
    error = {"array": [decision.deviation or 0.0], "color": HIGHLIGHT, "thickness": 2}
    marker = {"symbol": "star", "size": 15, "color": HIGHLIGHT}
    position = task.space.encode([configuration])[0, task.space.names.index(name)]
    return go.Scatter(
        x=[value],
        y=[decision.mean],
        mode="markers+text",
        marker=marker,
        error_y=error,
        textposition="middle left" if position > 0.6 else "middle right",
        **common,
    )


def _shown(value: Any, task: Task, name: str) -> Any:
    """A value as its axis expects it: choices as text, because None and booleans are choices."""
    categorical = isinstance(task.space.distributions[name], CategoricalDistribution)
    return str(value) if categorical else value


def _axis(name: str, distribution: BaseDistribution) -> dict[str, Any]:
    """Title, scale and range of the axis of a hyperparameter."""
    if isinstance(distribution, CategoricalDistribution):
        choices = [str(choice) for choice in distribution.choices]
        room = [-0.5, len(choices) - 0.5]
        return {"title": name, "type": "category", "categoryarray": choices, "range": room}
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = distribution.low, distribution.high
    if not distribution.log:
        margin = 0.05 * (high - low) or 0.5
        return {"title": name, "type": "linear", "range": [low - margin, high + margin]}
    ticks = log_ticks(low, high)
    margin = 0.05 * math.log10(high / low) or 0.5
    return {
        "title": f"{name} (log scale)",
        "type": "log",
        "range": [math.log10(low) - margin, math.log10(high) + margin],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }
