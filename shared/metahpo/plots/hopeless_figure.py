"""Figure of the part of the search space that the surrogate considered hopeless."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo.plots.figure_style import (
    HIGHLIGHT,
    MUTED,
    graph_objects,
    rows_height,
    styled,
    value_text,
)
from metahpo.suggest.decision import Decision, Part
from metahpo.suggest.decision_record import DecisionRecord
from metahpo.tasks.space import Space

if TYPE_CHECKING:
    import plotly.graph_objects as go


class _Share(NamedTuple):
    """A hopeless part: where it begins and ends in [0, 1], and its values as text."""

    low: float
    high: float
    text: str


def plot_hopeless(decision: Decision | DecisionRecord, space: Space) -> go.Figure:
    """Show what the surrogate considered hopeless of each hyperparameter, within its range.

    Args:
        decision: As the policy made it, or as a host recorded it
            (``optuna_meta.recorded_decision``, ``MetaSearch.recorded_decision``).
        space: The task's space.

    Raises:
        ImportError: plotly is not installed.
    """
    go = graph_objects()
    names = list(space)[::-1]
    figure = go.Figure()
    figure.add_bar(
        x=[1.0] * len(names),
        y=names,
        orientation="h",
        marker_color=HIGHLIGHT,
        name="promising",
        hovertext=[_ends(space, name) for name in names],
        hoverinfo="y+text",
    )
    for name, part in decision.hopeless.items():
        shares = _shares(part, space, name)
        figure.add_bar(
            x=[share.high - share.low for share in shares],
            y=[name] * len(shares),
            base=[share.low for share in shares],
            orientation="h",
            marker_color=MUTED,
            name="hopeless",
            text=[share.text for share in shares],
            textposition="inside",
            insidetextanchor="middle",
            hovertext=[share.text for share in shares],
            hoverinfo="y+text",
        )
    figure.update_layout(barmode="overlay", bargap=0.35)
    figure.update_xaxes(title="position in the range", range=[0.0, 1.0])
    return styled(
        figure,
        "What the surrogate considers hopeless",
        "Grey: no point there is likely to improve on the best trial, whatever the other "
        "hyperparameters are. Blue: the rest of the range.",
        rows_height(len(names)),
    )


def _ends(space: Space, name: str) -> str:
    match space.distributions[name]:
        case CategoricalDistribution(choices=choices):
            return ", ".join(map(str, choices))
        case FloatDistribution(low=low, high=high) | IntDistribution(low=low, high=high):
            return f"{value_text(low)} to {value_text(high)}"
    return ""


def _shares(part: Part, space: Space, name: str) -> Sequence[_Share]:
    alone = Space({name: space.distributions[name]})
    half = 0.5 / alone.levels[0] if alone.levels[0] else 0.0
    if alone.is_categorical[0]:
        middles = alone.encode([{name: choice} for choice in part.choices])[:, 0]
        shown = zip(middles, part.choices, strict=True)
        return [_Share(m - half, m + half, str(choice)) for m, choice in shown]
    ends = [alone.encode([{name: low}, {name: high}])[:, 0] for low, high in part.ranges]
    texts = [f"{value_text(low)} to {value_text(high)}" for low, high in part.ranges]
    return [_Share(low - half, high + half, t) for (low, high), t in zip(ends, texts, strict=True)]
