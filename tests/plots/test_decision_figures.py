"""The figure of a decision shows the next trial among the trials so far, in natural units."""

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo import Space, Task, Trial
from metahpo.plots import plot_decision
from metahpo.plots.figure_style import HIGHLIGHT, MUTED, log_ticks
from metahpo.suggest.decision import Decision, Source

SPACE = Space(
    {
        "lr": FloatDistribution(1e-4, 1.0, log=True),
        "layers": IntDistribution(1, 8),
        "bias": CategoricalDistribution([True, False, None]),
    }
)
TRIALS = (
    Trial({"lr": 0.01, "layers": 2, "bias": True}, 0.5),
    Trial({"lr": 0.1, "bias": None}, 0.7),
    Trial({"lr": 1.0, "layers": 8, "bias": True}, None),
)
TASK = Task("now", SPACE, TRIALS)
NEXT = {"lr": 0.02, "layers": 3, "bias": False}
PREDICTED = Decision((NEXT,), Source.ACQUISITION, "Because.", mean=0.8, deviation=0.1)


def _traces(figure, name: str):
    return [trace for trace in figure.data if trace.name == name]


def test_each_panel_has_the_observed_trials_in_the_units_of_its_hyperparameter():
    rate, layers, bias = _traces(plot_decision(PREDICTED, TASK), "trials")
    assert (rate.x, rate.y) == ((0.01, 0.1), (0.5, 0.7))
    assert (layers.x, layers.y) == ((2,), (0.5,)), "inactive in the second trial"
    assert bias.x == ("True", "None")
    assert rate.marker.color == MUTED


def test_the_next_trial_is_highlighted_at_its_prediction_with_one_deviation():
    rate, layers, bias = _traces(plot_decision(PREDICTED, TASK), "next trial")
    assert [trace.x for trace in (rate, layers, bias)] == [(0.02,), (3,), ("False",)]
    assert {trace.y for trace in (rate, layers, bias)} == {(0.8,)}
    assert tuple(rate.error_y.array) == (0.1,)
    assert rate.marker.color == HIGHLIGHT
    assert rate.text == ("<b>0.02</b>",)


def test_a_next_trial_without_a_prediction_is_a_vertical_line():
    decision = Decision((NEXT,), Source.PORTFOLIO, "Because.")
    rate = _traces(plot_decision(decision, TASK), "next trial")[0]
    assert (rate.x, rate.y) == ((0.02, 0.02), (0.5, 0.7))
    empty = _traces(plot_decision(decision, Task("now", SPACE)), "next trial")[0]
    assert empty.y == (0.0, 1.0)


def test_a_hyperparameter_that_is_inactive_in_the_next_trial_is_not_marked():
    decision = Decision(({"lr": 0.02, "bias": True},), Source.PORTFOLIO, "")
    assert len(_traces(plot_decision(decision, TASK), "next trial")) == 2


def test_axes_have_the_scale_range_and_name_of_their_hyperparameter():
    layout = plot_decision(PREDICTED, TASK).layout
    rate, layers, bias = layout.xaxis, layout.xaxis2, layout.xaxis3
    assert (rate.type, rate.title.text) == ("log", "lr (log scale)")
    assert rate.range[0] < -4
    assert rate.range[1] > 0
    assert rate.ticktext == ("0.0001", "0.001", "0.01", "0.1", "1")
    assert (layers.type, layers.title.text) == ("linear", "layers")
    assert bias.categoryarray == ("True", "False", "None")
    assert layout.yaxis.title.text == "value (larger is better)"


def test_title_and_subtitle_say_where_the_configuration_came_from_and_why():
    reason = "A reason that is far too long for one line, " * 4
    decision = Decision((NEXT,), Source.ACQUISITION, reason)
    title = plot_decision(decision, TASK).layout.title.text
    assert title.startswith("The next trial: acquisition<br>")
    lines = title.partition(">A reason")[2].split("<br>")
    assert len(lines) == 2


def test_a_decision_without_a_configuration_is_an_error():
    with pytest.raises(ValueError, match="the decision needs a configuration"):
        plot_decision(Decision((), Source.FALLBACK, ""), TASK)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (16, 512, [20, 50, 100, 200, 500]),
        (1e-4, 1.0, [1e-4, 1e-3, 1e-2, 1e-1, 1.0]),
        (1e-12, 1.0, [1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1.0]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_round_numbers(low, high, ticks):
    np.testing.assert_allclose(log_ticks(low, high), ticks)


def test_infeasible_trials_are_hollow_at_their_own_values():
    trials = (*TRIALS, Trial({"lr": 0.5}, 9.0, violation=1.0))
    rate = _traces(plot_decision(PREDICTED, Task("now", SPACE, trials)), "trials")[0]
    assert rate.y == (0.5, 0.7, 9.0)
    assert rate.marker.symbol == ("circle", "circle", "circle-open")
    assert rate.text[2].endswith("<br>infeasible")
