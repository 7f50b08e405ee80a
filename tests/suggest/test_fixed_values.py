"""Values fixed for the next configurations: every way to decide keeps them and uses them."""

import numpy as np
import pytest
from support.problems import CONDITIONAL, PLANE, history_of, random_task, trial

from metahpo.settings import DEFAULT_SETTINGS, PolicySettings, PortfolioSettings
from metahpo.suggest.decision import Source
from metahpo.suggest.history import History
from metahpo.suggest.plugin import random_configuration
from metahpo.suggest.policy import _conditioned, suggest
from metahpo.suggest.situation import Situation
from metahpo.surrogate.registry import surrogate_family
from metahpo.surrogate.study_arrays import study_arrays
from metahpo.tasks.space import Configuration
from metahpo.tasks.task import Task, Trial, TrialState

FAST = PolicySettings(portfolio=PortfolioSettings(trees=60))


def ridge(c: Configuration) -> float:
    """At its best, -x, where y = x; at the best of all, x = y = 0."""
    return -c["x"] - 4 * (c["y"] - c["x"]) ** 2


def bowl(c: Configuration) -> float:
    return -c["layers"] - (c.get("momentum", 0.4) - 0.9) ** 2


SITUATIONS = {
    "portfolio": (0, True, Source.PORTFOLIO),
    "first trials": (0, False, Source.SPACE_FILLING),
    "acquisition": (8, False, Source.ACQUISITION),
    "acquisition with history": (8, True, Source.ACQUISITION),
}


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize(
    "fixed",
    [
        {"optimizer": "sgd", "momentum": 0.123456789},
        {"optimizer": "adam", "momentum": 0.9},
        {"momentum": 2.5},
        {"layers": 9, "lr": 1e-9},
        {"lr": 0.1, "layers": 2, "optimizer": "adam"},
    ],
    ids=str,
)
def test_fixed_values_are_kept_as_they_are(fixed, situation):
    """Outside the range and of the wrong type too; what a condition rules out is left out."""
    n, with_history, source = SITUATIONS[situation]
    history = history_of(bowl, space=CONDITIONAL) if with_history else []
    task = random_task(bowl, CONDITIONAL, n=n, seed=5)
    decision = suggest(task, history, count=2, fixed=fixed, settings=FAST, surrogate="gp")
    assert decision.source is source
    for configuration in decision.configurations:
        active = {"lr", "layers", "optimizer"}
        if configuration["optimizer"] == "sgd":
            active.add("momentum")
        assert configuration.keys() == active
        for name in active & fixed.keys():
            assert configuration[name] == fixed[name]
    named = [name for name in fixed if name in decision.configurations[0]]
    assert ("Given beforehand" in decision.reason) or not named
    assert not decision.hopeless.keys() & set(named)


@pytest.mark.parametrize("surrogate", ["gp", "neural"])
@pytest.mark.parametrize("x", [0.3, 0.8])
def test_the_acquisition_is_maximised_given_the_fixed_values(surrogate, x):
    """The best trial, near x = y = 0, is out of reach; what improves on it is only unknown."""
    task = random_task(ridge, PLANE, n=25, seed=3)
    decision = suggest(task, [], fixed={"x": x}, surrogate=surrogate)
    assert decision.configurations[0]["y"] == pytest.approx(x, abs=0.15)
    assert "given values" in decision.reason


def test_the_portfolio_is_chosen_given_the_fixed_values():
    history = history_of(ridge, ridge, n=60)
    for x in (0.1, 0.5, 0.9):
        decision = suggest(Task("present", PLANE), history, fixed={"x": x}, settings=FAST)
        assert decision.source is Source.PORTFOLIO
        assert decision.configurations[0] == {"x": x, "y": pytest.approx(x, abs=0.2)}


@pytest.mark.parametrize(("n", "with_history"), [(0, True), (6, False)])
def test_workers_with_the_same_fixed_values_differ(n, with_history):
    history = history_of(ridge, n=30) if with_history else []
    task = random_task(ridge, PLANE, n=n, seed=1)
    for seed in range(4):
        decision = suggest(task, history, seed=seed, fixed={"x": 0.5}, settings=FAST)
        running = Trial(decision.configurations[0], None, TrialState.RUNNING)
        task = Task(task.name, task.space, (*task.trials, running))
    ys = sorted(t.configuration["y"] for t in task.running)
    assert np.diff(ys).min() > 1e-6


def test_where_all_is_fixed_that_is_what_is_run():
    fixed = {"x": 0.25, "y": 0.75}
    for trials in ((), (trial(fixed, 1.0),)):
        decision = suggest(Task("present", PLANE, trials), [], fixed=fixed)
        assert decision.configurations == (fixed,)
    assert "repeated" in decision.reason


def test_nothing_fixed_changes_nothing():
    task = random_task(ridge, PLANE, n=6, seed=1)
    assert suggest(task, [], fixed={}) == suggest(task, []) == suggest(task, [], fixed={"z": 1})


def test_values_that_have_no_place_are_not_taken_into_account():
    fixed = {"layers": "many", "lr": None, "optimizer": "lion", "momentum": float("nan")}
    task = random_task(bowl, CONDITIONAL, n=5, seed=5)
    assert suggest(task, [], fixed=fixed) == suggest(task, [])


def test_random_configurations_keep_fixed_values_too():
    fixed = {"optimizer": "adam", "momentum": 0.5, "lr": 3.0}
    found = random_configuration(CONDITIONAL, np.random.default_rng(0), fixed)
    assert found.keys() == {"lr", "layers", "optimizer"}
    assert (found["optimizer"], found["lr"]) == ("adam", 3.0)


def test_values_that_have_no_place_are_in_no_random_configuration():
    fixed = {"layers": "many", "lr": None, "optimizer": "lion", "momentum": float("nan")}
    drawn, plain = (
        random_configuration(CONDITIONAL, np.random.default_rng(0), given) for given in (fixed, {})
    )
    assert drawn == plain


def test_of_a_long_study_few_trials_are_compared_those_with_the_fixed_values_first():
    """They are the worst of all, but say most of what can be had with these values."""
    rng = np.random.default_rng(0)
    points = rng.random((900, 2))
    points[:100, 1] = 0.9
    trials = tuple(trial({"x": x, "y": y}, i) for i, (x, y) in enumerate(points.tolist()))
    compared: list[np.ndarray] = []

    class Recorder:
        def condition_on_pending(self, _):
            return self

        def relative_to(self, points):
            compared.append(points)
            return self

    task = Task("t", PLANE, trials)
    study = study_arrays(task, PLANE)
    view = History(()).view(task, DEFAULT_SETTINGS, define_by_run=True)
    family = surrogate_family("gp")
    situation = Situation(
        task, study, view, family, DEFAULT_SETTINGS, 1, {"y": 0.9}, np.random.default_rng(0)
    )
    pending = np.array([[0.123, 0.4]])
    _conditioned(Recorder(), pending, situation)
    (found,) = compared
    assert len(found) == DEFAULT_SETTINGS.search.most_compared + 1
    assert set(points[:100, 0]) | {points[-1, 0], 0.123} <= set(found[:, 0])
    assert set(found[:, 1]) == {0.9}
