"""Figures: what they show is what was decided."""

import sys

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from metahpo import Space, Task, Trial, recommend
from metahpo.plots.plots import plot_metafeatures, plot_provenance, plot_pruned, plot_task_map
from metahpo.suggest.decision import Decision, Source

SPACE = Space({"x": FloatDistribution(1e-4, 1.0, log=True), "c": CategoricalDistribution(["a"])})
TASKS = [
    Task(
        f"t{number}",
        SPACE,
        tuple(Trial({"x": 10.0**-i, "c": "a"}, -abs(i - number / 3)) for i in range(5)),
        {"a": float(number), "b": float(number % 4)},
    )
    for number in range(12)
]


def test_the_map_has_all_tasks_and_the_new_one_near_its_like():
    figure = plot_task_map(TASKS, TASKS[4].metafeatures)
    past, new = figure.data
    assert len(past.x) == len(TASKS)
    assert (new.x[0], new.y[0]) == pytest.approx((past.x[4], past.y[4]))
    with pytest.raises(ValueError, match="at least three"):
        plot_task_map(TASKS[:2])


def test_shares_and_provenance_are_those_of_the_recommendations():
    found = recommend({"a": 3.0, "b": 1.0}, TASKS, k=2, method="knn")
    (bars,) = plot_metafeatures(found).data
    assert dict(zip(bars.y, bars.x, strict=True)) == dict(found.metafeatures)
    figure = plot_provenance(found)
    assert len(figure.data) == 2
    np.testing.assert_allclose(figure.data[0].y, [e.score for e in found[0].evidence])


def test_pruned_regions_are_on_the_scale_of_the_hyperparameter():
    decision = Decision(({},), Source.ACQUISITION, "", shrunk={"x": (1e-3, 1e-1)})
    _, searched = plot_pruned(decision, SPACE).data
    assert searched.y == ("x",)
    assert searched.base[0] == pytest.approx(0.25)
    assert searched.x[0] == pytest.approx(0.5)
    assert plot_pruned(Decision(({},), Source.FALLBACK, ""), SPACE).data[1].x == (1.0,)


def test_without_plotly_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ImportError, match=r"metahpo\[plots\]"):
        plot_task_map(TASKS)
