"""Figure of what a decision did not search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo.plots.figure_style import graph_objects
from metahpo.suggest.decision import Decision
from metahpo.tasks.space import Space

if TYPE_CHECKING:
    import plotly.graph_objects as go


def plot_pruned(decision: Decision, space: Space) -> go.Figure:
    """The ranges that were searched, as shares of the whole ranges; the rest was pruned.

    Args:
        decision: As the policy made it.
        space: The task's space.

    Raises:
        ImportError: Without plotly.
    """
    go = graph_objects()
    names = [
        n for n, d in space.distributions.items() if not isinstance(d, CategoricalDistribution)
    ]
    ranges = [_searched(decision, space, name) for name in names]
    figure = go.Figure()
    figure.add_bar(x=[1.0] * len(names), y=names, orientation="h", name="pruned", opacity=0.3)
    figure.add_bar(
        x=[high - low for low, high in ranges],
        y=names,
        base=[low for low, _ in ranges],
        orientation="h",
        name="searched",
        hovertext=[str(decision.shrunk.get(name, "all")) for name in names],
    )
    return figure.update_layout(
        title="Regions that pruning left", barmode="overlay", xaxis_title="position in the range"
    )


def _searched(decision: Decision, space: Space, name: str) -> tuple[float, float]:
    """Low and high of what was searched, as shares of the range."""
    if name not in decision.shrunk:
        return 0.0, 1.0
    distribution = space.distributions[name]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = Space({name: distribution}).encode([{name: v} for v in decision.shrunk[name]])[
        :, 0
    ]
    return float(low), float(high)
