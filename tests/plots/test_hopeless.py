"""The figure of what a decision did not search."""

import pytest
from support.figures import SPACE

from metahpo.plots import plot_pruned
from metahpo.suggest.decision import Decision, Source


def test_pruned_regions_are_on_the_scale_of_the_hyperparameter():
    decision = Decision(({},), Source.ACQUISITION, "", shrunk={"x": (1e-3, 1e-1)})
    _, searched = plot_pruned(decision, SPACE).data
    assert searched.y == ("x",)
    assert searched.base[0] == pytest.approx(0.25)
    assert searched.x[0] == pytest.approx(0.5)
    assert plot_pruned(Decision(({},), Source.FALLBACK, ""), SPACE).data[1].x == (1.0,)
