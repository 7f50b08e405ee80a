"""The figure of what the surrogate considered hopeless."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo import Space
from metahpo.plots import plot_hopeless
from metahpo.suggest.decision import Decision, Part, Source

SPACE = Space(
    {
        "lr": FloatDistribution(1e-4, 1.0, log=True),
        "layers": IntDistribution(1, 4),
        "optimizer": CategoricalDistribution(["adam", "sgd"]),
    }
)


def test_hopeless_parts_lie_where_their_values_lie_in_the_range():
    hopeless = {
        "lr": Part(((1e-4, 1e-3), (1e-1, 1.0))),
        "layers": Part(((2, 3),)),
        "optimizer": Part(choices=("sgd",)),
    }
    decision = Decision(({},), Source.ACQUISITION, "", hopeless=hopeless)
    whole, *parts = plot_hopeless(decision, SPACE).data
    assert whole.y == ("optimizer", "layers", "lr")
    assert whole.x == (1.0, 1.0, 1.0)
    found = {bar.y[0]: list(zip(bar.base, bar.x, bar.text, strict=True)) for bar in parts}
    assert found["lr"] == [
        (pytest.approx(0.0), pytest.approx(0.25), "0.0001 to 0.001"),
        (pytest.approx(0.75), pytest.approx(0.25), "0.1 to 1"),
    ]
    assert found["layers"] == [(pytest.approx(0.25), pytest.approx(0.5), "2 to 3")]
    assert found["optimizer"] == [(pytest.approx(0.5), pytest.approx(0.5), "sgd")]


def test_a_decision_without_a_surrogate_calls_nothing_hopeless():
    (whole,) = plot_hopeless(Decision(({},), Source.FALLBACK, ""), SPACE).data
    assert whole.name == "promising"
