"""How the figures look: ours highlighted, peers muted, lines labelled at their ends.

Figures are 8 inches wide at 100 dots an inch, so that their text is legible at 800 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HEIGHT, DPI = 8.0, 4.8, 100
MOST_LINES = 6
OURS, OURS_TOO = "#c2410c", "#e08a54"
MUTED = ("#374151", "#6b7280", "#3f6788", "#55735c", "#7d5a86")
PALE = "#c3c8d1"
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
# Space between the labels at the lines' ends, in lines of text.
SPACING = 1.25
_FONT = 11


@dataclass(frozen=True)
class Line:
    """A line of a figure.

    Attributes:
        label: What is written at its end.
        x: Its points' places.
        y: Their heights; not a number ends the line.
        ours: Whether it is highlighted.
        band: Lower and upper ends of an interval around it.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    ours: bool = False
    band: tuple[Sequence[float], Sequence[float]] | None = None


def new_figure(columns: int = 1) -> tuple[Any, list[Any]]:
    """A figure and its axes, side by side."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": _FONT, "axes.titlesize": _FONT, "axes.labelsize": _FONT})
    figure, axes = plt.subplots(1, columns, figsize=(WIDTH, HEIGHT), squeeze=False, sharey=True)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, lw=0.6)
    return figure, list(axes.flat)


def draw_lines(axis: Any, lines: Sequence[Line]) -> None:
    """Draw lines, the first of ours thickest, with a label at the end of each.

    Raises:
        ValueError: If there are more lines than can be distinguished.
    """
    if len(lines) > MOST_LINES:
        raise ValueError(f"at most {MOST_LINES} lines in a figure, got {len(lines)}")
    styles = _styles(lines)
    for line, style in zip(lines, styles, strict=True):
        axis.plot(line.x, line.y, **style)
        if line.band is not None:
            axis.fill_between(line.x, *line.band, color=style["color"], alpha=0.12, lw=0)
    axis.set_xlim(min(line.x[0] for line in lines), max(line.x[-1] for line in lines))
    _label_ends(axis, lines, styles)


def _styles(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Colour, width, dashes and order of each line."""
    ours = iter((OURS, OURS_TOO))
    muted = iter(zip(MUTED, DASHES, strict=True))
    styles = []
    for line in lines:
        if line.ours:
            color = next(ours)
            styles.append({"color": color, "lw": 3.0 if color == OURS else 2.2, "zorder": 3})
        else:
            color, dashes = next(muted)
            styles.append({"color": color, "lw": 1.5, "ls": dashes, "zorder": 2})
    return styles


def _label_ends(axis: Any, lines: Sequence[Line], styles: Sequence[dict[str, Any]]) -> None:
    """Write each label right of its line's end, moved where it would cover another."""
    axis.figure.subplots_adjust(left=0.1, right=0.7, top=0.93, bottom=0.12)
    to_pixels, to_axes = axis.transData.transform, axis.transAxes.inverted().transform
    axis.autoscale_view()
    ends = [
        float(to_axes(to_pixels((line.x[_last(line)], line.y[_last(line)])))[1]) for line in lines
    ]
    height = axis.get_window_extent().height
    places = spread(ends, SPACING * _FONT * DPI / 72 / height)
    for line, style, end, place in zip(lines, styles, ends, places, strict=True):
        axis.annotate(
            line.label,
            xy=(1.0, end),
            xytext=(1.04, place),
            xycoords="axes fraction",
            va="center",
            color=style["color"],
            fontweight="bold" if style["color"] == OURS else "normal",
            arrowprops={"arrowstyle": "-", "color": style["color"], "lw": 0.7, "shrinkA": 0},
            annotation_clip=False,
        )


def plain_ticks(axis: Any, places: Sequence[float] | None = None) -> None:
    """Write the ticks of a logarithmic axis as plain numbers.

    Args:
        axis: A figure's x or y axis.
        places: Where; by default at 1, 2 and 5 times the powers of ten.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(FixedLocator(places) if places else LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def few_ticks() -> Any:
    """A locator for the narrow axes of several panels."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=3)


def _last(line: Line) -> int:
    """Position of a line's last point that is a number."""
    return int(np.flatnonzero(np.isfinite(line.y))[-1])


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Places at least a gap apart, in the same order and as near as a few moves bring them."""
    order = np.argsort(places)
    sorted_places = np.array(places, float)[order]
    for _ in range(200):
        lack = gap - np.diff(sorted_places)
        if (lack <= 1e-6).all():
            break
        push = np.maximum(lack, 0.0) / 2
        sorted_places[:-1] -= push
        sorted_places[1:] += push
    moved = np.empty_like(sorted_places)
    moved[order] = sorted_places
    return moved.tolist()


def save(figure: Any, path: Path) -> None:
    """Write a figure and close it."""
    figure.savefig(path, dpi=DPI)
    close(figure)


def close(figure: Any) -> None:
    """Free a figure's memory."""
    from matplotlib import pyplot as plt

    plt.close(figure)
