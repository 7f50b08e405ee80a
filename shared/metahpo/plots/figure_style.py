"""The look that all figures share: one highlight, muted context, direct labels."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

# What the figure is about; its context; text.
HIGHLIGHT, MUTED, TEXT = "#0b62b8", "#b4bac4", "#30343b"
GRID = "#eceef1"
FONT_SIZE = 14
# Characters of a subtitle that fit into 800 pixels.
LINE_LENGTH = 110
# Pixels for each row of a chart with labelled rows, and for title and axis.
ROW_HEIGHT, FRAME_HEIGHT = 30, 150


def graph_objects() -> Any:
    """Return ``plotly.graph_objects``.

    Raises:
        ImportError: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise ImportError("plots need plotly: pip install 'metahpo[plots]'") from None
    return go


def styled(figure: go.Figure, title: str, subtitle: str = "", height: int = 450) -> go.Figure:
    """Apply the common layout, made to be legible at a width of 800 pixels.

    Args:
        figure: Changed in place.
        title: What the figure shows.
        subtitle: How to read it; wrapped into lines.
        height: Pixels.
    """
    lines = textwrap.wrap(subtitle, LINE_LENGTH)
    text = f"{title}<br><span style='font-size:13px'>{'<br>'.join(lines)}</span>"
    figure.update_layout(
        template="none",
        title={"text": text, "x": 0.02, "xanchor": "left", "y": 1.0, "yanchor": "top"},
        title_pad={"t": 18},
        title_font_size=18,
        font={"family": "Helvetica, Arial, sans-serif", "size": FONT_SIZE, "color": TEXT},
        paper_bgcolor="white",
        plot_bgcolor="white",
        height=height,
        margin={"l": 20, "r": 30, "t": 65 + 18 * len(lines), "b": 60},
        showlegend=False,
        hovermode="closest",
    )
    axis = {
        "gridcolor": GRID,
        "linecolor": MUTED,
        "zeroline": False,
        "automargin": True,
        "title_font_size": FONT_SIZE,
        "title_standoff": 8,
    }
    figure.update_xaxes(showline=True, ticks="outside", tickcolor=MUTED, **axis)
    figure.update_yaxes(showline=False, **axis)
    return figure


def log_ticks(low: float, high: float) -> list[float]:
    """Tick positions on a logarithmic axis: at most about seven, at 1, 2 and 5 or at decades.

    Args:
        low: Lower bound in the hyperparameter's own units, above 0.
        high: Upper bound.
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 2 else (1,)
    every = max(1, math.ceil(decades / 7))
    ticks = [step * 10.0**power for power in range(first, last + 1, every) for step in steps]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def rows_height(rows: int) -> int:
    """Height in pixels of a chart with one labelled row per item."""
    return FRAME_HEIGHT + ROW_HEIGHT * max(2, rows)


def configuration_text(configuration: Mapping[str, Any]) -> str:
    """A configuration for hover text, one hyperparameter per line."""
    return "<br>".join(f"{name}: {value_text(value)}" for name, value in configuration.items())


def value_text(value: Any) -> str:
    """A value with at most four significant digits."""
    # Adding 0.0 turns -0.0 into 0.0.
    return f"{value + 0.0:.4g}" if isinstance(value, float) else str(value)
