"""The figures' common look."""

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the benchmarks need metahpo[bench]")

from benchmarks import style
from benchmarks.style import Line


def lines(count):
    return [Line(f"line {i}", [1, 2, 3], [3.0, 2.0, 1.0 + 0.01 * i]) for i in range(count)]


def test_labels_that_would_overlap_are_moved_apart_in_their_order():
    places = style.spread([0.52, 0.5, 0.51, 0.9], 0.1)
    assert np.argsort(places).tolist() == [1, 2, 0, 3]
    assert np.diff(sorted(places)).min() >= 0.1 - 1e-4


def test_labels_that_do_not_overlap_stay_at_their_lines():
    assert style.spread([0.9, 0.1, 0.5], 0.1) == [0.9, 0.1, 0.5]


def test_a_figure_is_800_pixels_wide(tmp_path):
    figure, (axis,) = style.new_figure()
    style.draw_lines(axis, lines(style.MOST_LINES - 1))
    style.save(figure, tmp_path / "figure.png")
    header = (tmp_path / "figure.png").read_bytes()[:24]
    assert int.from_bytes(header[16:20], "big") == 800


def test_more_than_six_lines_are_refused():
    figure, (axis,) = style.new_figure()
    with pytest.raises(ValueError, match="at most 6 lines"):
        style.draw_lines(axis, lines(style.MOST_LINES + 1))
    style.close(figure)


def test_a_line_that_diverges_is_labelled_where_it_ends(tmp_path):
    figure, (axis,) = style.new_figure()
    style.draw_lines(axis, [*lines(1), Line("diverged", [1, 2, 3], [3.0, 4.0, np.nan])])
    style.save(figure, tmp_path / "figure.png")
