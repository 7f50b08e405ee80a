"""Figures of recommendations show their shares, scores, weights and configurations."""

import pytest
from support.figures import TASKS

from metahpo import recommend
from metahpo.plots import plot_metafeatures, plot_provenance
from metahpo.plots.figure_style import HIGHLIGHT, MUTED
from metahpo.recommendation.recommend import Evidence, Recommendation, Recommendations


def _recommendations(*metafeatures: tuple[str, float]) -> Recommendations:
    items = (
        Recommendation({"x": 0.123456}, 0.9, (Evidence("t1", 0.7, 1.0), Evidence("t2", 0.3, 0.4))),
        Recommendation({"x": 0.5}, 0.8, (Evidence("t1", 0.7, 0.2), Evidence("t2", 0.3, 0.6))),
    )
    return Recommendations(items, "knn", (("t1", 0.7), ("t2", 0.3)), metafeatures)


def test_each_metafeature_has_a_bar_with_its_share_in_percent():
    found = recommend({"a": 3.0, "b": 1.0}, TASKS, k=2, method="knn")
    [bars] = plot_metafeatures(found).data
    assert dict(zip(bars.y, bars.x, strict=True)) == dict(found.metafeatures)
    assert bars.text[0] == f"{found.metafeatures[0][1]:.0%}"


def test_the_metafeatures_that_make_half_of_the_importance_are_highlighted():
    metafeatures = (("a", 0.4), ("b", 0.3), ("c", 0.295), ("d", 0.005))
    [bars] = plot_metafeatures(_recommendations(*metafeatures)).data
    assert bars.marker.color == (HIGHLIGHT, HIGHLIGHT, MUTED, MUTED)
    assert bars.text == ("40%", "30%", "30%", "<1%")


def test_metafeatures_beyond_the_twentieth_are_counted_in_the_subtitle():
    figure = plot_metafeatures(_recommendations(*((f"m{i}", 1 / 25) for i in range(25))))
    assert len(figure.data[0].y) == 20
    assert "5 more not shown" in figure.layout.title.text


def test_a_method_without_metafeatures_is_named_instead_of_an_empty_chart():
    figure = plot_metafeatures(_recommendations())
    assert "'knn' does not weigh meta-features" in figure.layout.title.text
    assert figure.layout.xaxis.visible is False


def test_each_recommendation_has_its_scores_on_the_row_of_each_past_task():
    figure = plot_provenance(_recommendations())
    scores = {}
    for trace in figure.data:
        for score, row in zip(trace.x, trace.y, strict=True):
            scores[trace.name, round(row)] = score
    assert scores == {
        ("recommendation 1", 0): 1.0,
        ("recommendation 1", 1): 0.4,
        ("recommendation 2", 0): 0.2,
        ("recommendation 2", 1): 0.6,
    }


def test_the_rows_of_the_provenance_are_past_tasks_with_their_weights_heaviest_first():
    axis = plot_provenance(_recommendations()).layout.yaxis
    assert axis.ticktext == ("t1  (weight 0.70)", "t2  (weight 0.30)")
    assert axis.range[0] > axis.range[1], "the first row is at the top"


def test_the_first_recommendation_is_highlighted_and_drawn_on_top():
    traces = plot_provenance(_recommendations()).data
    assert [trace.name for trace in traces] == ["recommendation 2", "recommendation 1"]
    assert [trace.marker.color for trace in traces] == [MUTED, HIGHLIGHT]
    assert traces[1].hovertext == "recommendation 1<br>x: 0.1235"


def test_one_recommendation_alone_lies_in_the_middle_of_its_rows():
    found = recommend({"a": 3.0, "b": 1.0}, TASKS, k=1, method="knn")
    [trace] = plot_provenance(found).data
    assert list(trace.y) == pytest.approx(range(len(found[0].evidence)), abs=1e-9)
