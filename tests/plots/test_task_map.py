"""The map of tasks by their meta-features."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from support.figures import TASKS

from metahpo import Trial
from metahpo.plots import plot_task_map


def _trace(figure, name: str):
    [trace] = [trace for trace in figure.data if trace.name == name]
    return trace


def test_every_past_task_is_on_the_map_with_its_name_and_best_value():
    past = _trace(plot_task_map(TASKS), "past tasks")
    assert len(past.x) == len(past.y) == len(TASKS)
    assert past.text[0] == "t0<br>best value 0"
    assert past.text[1] == "t1<br>best value -0.3333"


def test_the_best_value_of_a_past_task_is_that_of_a_feasible_trial():
    better = Trial({"x": 0.1, "c": "a"}, 9.0, violation=1.0)
    first, second = TASKS[:2]
    constrained = [
        replace(first, trials=(*first.trials, better)),
        replace(second, trials=(better,)),
        *TASKS[2:],
    ]
    past = _trace(plot_task_map(constrained), "past tasks")
    assert past.text[:2] == ("t0<br>best value 0", "t1<br>best value none")


def test_the_new_task_lies_on_a_past_task_with_the_same_metafeatures():
    figure = plot_task_map(TASKS, TASKS[4].metafeatures)
    past, new = _trace(figure, "past tasks"), _trace(figure, "new task")
    assert (new.x[0], new.y[0]) == pytest.approx((past.x[4], past.y[4]))


def test_the_past_tasks_nearest_to_the_new_one_are_named():
    figure = plot_task_map(TASKS, TASKS[4].metafeatures)
    past, named = _trace(figure, "past tasks"), _trace(figure, "nearest past tasks")
    distances = np.hypot(np.array(past.x) - past.x[4], np.array(past.y) - past.y[4])
    nearest = [f"t{number}" for number in np.argsort(distances, kind="stable")[:5]]
    assert list(named.text) == nearest
    assert nearest[0] == "t4"


def test_without_a_new_task_no_task_is_named_or_highlighted():
    assert [trace.name for trace in plot_task_map(TASKS).data] == ["past tasks"]


def test_the_axes_say_how_much_variance_they_explain():
    layout = plot_task_map(TASKS).layout
    shares = [
        int(axis.title.text.partition("(")[2].partition("%")[0])
        for axis in (layout.xaxis, layout.yaxis)
    ]
    # Two meta-features: two components explain everything, but for rounding.
    assert sum(shares) == pytest.approx(100, abs=1)
    assert shares[0] >= shares[1]


def test_fewer_than_three_past_tasks_are_an_error():
    with pytest.raises(ValueError, match="at least three past tasks"):
        plot_task_map(TASKS[:2])


def test_an_error_without_plotly_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ImportError, match=r"metahpo\[plots\]"):
        plot_task_map(TASKS)
