"""MetaSearch as Ray calls it: the contract of a searcher and its pitfalls, without a cluster."""

import importlib
import json
import math
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.ray_folders import params, write_trial

pytest.importorskip("ray.tune", reason="Ray is not installed: pip install 'metahpo[ray]'")

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ray import cloudpickle, tune
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.search_generator import SearchGenerator
from support.ray_spaces import spaces

from metahpo import Archive, Space, Task, Trial
from metahpo.archive import SourceError, SourceWarning
from metahpo.suggest.policy import ModelError
from metahpo.tasks.task import TrialState
from raytune_meta import MetaSearch

SPACE = {"x": tune.uniform(-5, 5), "model": {"lr": tune.loguniform(1e-4, 1)}, "k": 3}
DISTRIBUTIONS = Space(
    {"x": FloatDistribution(-5, 5), "model/lr": FloatDistribution(1e-4, 1, log=True)}
)


def loss(config) -> float:
    return (config["x"] - 2) ** 2 + config["model"]["lr"]


def past() -> Task:
    tried = [{"x": x / 2, "model/lr": 10 ** -(i % 4)} for i, x in enumerate(range(-10, 11))]
    values = [-((c["x"] - 2) ** 2) - c["model/lr"] for c in tried]
    return Task("past", DISTRIBUTIONS, tuple(Trial(*pair) for pair in zip(tried, values)))  # noqa: B905


def searcher(limit: int | None = None, **arguments) -> MetaSearch:
    search = MetaSearch(**{"seed": 0, **arguments})
    assert search.set_search_properties("loss", "min", SPACE)
    if limit is not None:
        search.set_max_concurrency(limit)
    return search


def result(value, iteration: int = 1) -> dict:
    return {"loss": value, "training_iteration": iteration}


def run(search: MetaSearch, numbers, value=loss) -> list[dict]:
    """One trial after the other."""
    configs = []
    for number in numbers:
        configs.append(search.suggest(f"t{number}"))
        search.on_trial_complete(f"t{number}", result(value(configs[-1])))
    return configs


def sweep_task(search: MetaSearch) -> Task:
    return search._ledger.task("sweep", search._space.space, search.mode, {})


# ---- space, metric and mode ----------------------------------------------------------------


def test_the_names_that_ray_relies_on_are_there():
    search = MetaSearch()
    assert isinstance(search, Searcher)
    assert not hasattr(search, "searcher")  # that is how Ray finds wrappers
    assert search.suggest.__code__.co_varnames[1] == "trial_id"


def test_space_metric_and_mode_come_from_ray():
    search = searcher()
    assert (search.metric, search.mode) == ("loss", "min")
    assert search.suggest(trial_id="a").keys() == {"x", "model"}


def test_a_space_given_to_the_constructor_keeps_its_constants():
    search = MetaSearch(SPACE, "loss", "min", seed=0)
    assert not search.set_search_properties(None, None, {"other": 1})
    assert search.suggest("a")["k"] == 3


def test_metric_and_mode_may_come_from_ray_without_the_space():
    search = MetaSearch(SPACE, seed=0)
    search.set_search_properties("loss", "min", {"other": 1})
    assert search.suggest("a")


def test_functions_and_objects_in_a_space_are_resolved():
    class Thing:
        pass

    thing = Thing()
    space = {
        "x": tune.uniform(0, 1),
        "double": tune.sample_from(lambda config: 2 * config["x"]),
        "model": tune.choice([thing, {"p": tune.uniform(0, 1)}]),
    }
    search = MetaSearch(space, "loss", "min", seed=0)
    configs = [search.suggest(str(i)) for i in range(8)]
    assert all(config["double"] == 2 * config["x"] for config in configs)
    assert any(
        config["model"] is thing or isinstance(config["model"], Thing) for config in configs
    )
    assert any(isinstance(config["model"], dict) for config in configs)


def test_a_space_may_hold_distributions_of_optuna_anywhere(tmp_path):
    space = {
        "x": FloatDistribution(-5, 5),
        "model": {"lr": FloatDistribution(1e-4, 1, log=True), "layers": IntDistribution(1, 4)},
        "widths": [IntDistribution(8, 64, step=8), 16, (FloatDistribution(0, 1, step=0.25), "a")],
        "act": CategoricalDistribution(["relu", None]),
        "y": tune.uniform(0, 1),
        "opt": tune.choice(
            [{"kind": "sgd", "momentum": FloatDistribution(0, 1)}, {"kind": "adam"}]
        ),
        "k": 3,
    }
    search = MetaSearch(space, "loss", "min", seed=0)
    kinds = set()
    for number in range(12):
        config = _ask(search, [number])[0]
        assert -5 <= config["x"] <= 5
        assert 1e-4 <= config["model"]["lr"] <= 1
        assert config["model"]["layers"] in range(1, 5)
        assert config["widths"][0] in range(8, 65, 8)
        assert config["widths"][2][0] in (0, 0.25, 0.5, 0.75, 1)
        assert config["widths"][1::2] == [16]
        assert config["act"] in ("relu", None)
        assert 0 <= config["y"] <= 1
        assert (config["opt"].keys() == {"kind"}) == (config["opt"]["kind"] == "adam")
        assert config["k"] == 3
        assert json.loads(json.dumps(config))
        kinds.add(config["opt"]["kind"])
    assert kinds == {"sgd", "adam"}


@pytest.mark.parametrize("space", [lambda trial: trial.suggest_float("x", 0, 1), [("x", 1)], "x"])
def test_a_space_that_is_no_dictionary_is_refused(space):
    with pytest.raises(TypeError, match=r"dictionary of Ray's domains or Optuna's distributions"):
        MetaSearch(space)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "a"}, "the `metric` .*or `mode`"),
        ({}, "the `metric` .*or `mode`"),
    ],
)
def test_a_missing_metric_or_mode_raises_rays_message(arguments, message):
    """Ray's own messages."""
    with pytest.raises(RuntimeError, match=message):
        MetaSearch(SPACE, **arguments).suggest("a")


@pytest.mark.parametrize("space", [None, {}, {"k": 3}])
def test_a_missing_space_raises_rays_message(space):
    with pytest.raises(RuntimeError, match="no search space has been defined"):
        MetaSearch(space, "loss", "min").suggest("a")


def test_a_mode_without_a_metric_means_rays_anonymous_metric():
    search = MetaSearch(SPACE, mode="max", seed=0)
    search.suggest("a")
    assert search.metric == "_metric"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"mode": "maximise"}, ValueError),
        ({"metric": ["a", "b"], "mode": ["max", "min"]}, ValueError),
        ({"metric": 5}, TypeError),
        ({"seed": -1}, ValueError),
        ({"task": {"rows": math.inf}}, ValueError),
        ({"history": 5}, TypeError),
        ({"history": ""}, ValueError),
        ({"points_to_evaluate": [1]}, TypeError),
        ({"points_to_evaluate": [{}], "evaluated_rewards": [1, 2]}, ValueError),
        ({"points_to_evaluate": [{}], "evaluated_rewards": ["a"]}, TypeError),
        ({"space": {"a/b": tune.uniform(0, 1)}}, ValueError),
        ({"space": {"x": tune.grid_search([1, 2])}}, ValueError),
    ],
)
def test_wrong_arguments_are_errors_at_construction(arguments, error):
    with pytest.raises(error):
        MetaSearch(**arguments)


# ---- suggesting ----------------------------------------------------------------------------


def test_the_search_converges():
    search = searcher()
    assert min(loss(config) for config in run(search, range(25))) < 0.05


def test_a_quadratic_is_solved_within_thirty_trials():
    """Ray's own test of convergence, with a third of its trials."""
    search = MetaSearch({"x": tune.uniform(-20, 20)}, "loss", "min", seed=0)
    tried = run(search, range(30), lambda config: config["x"] ** 2)
    assert min(abs(config["x"]) for config in tried) < 0.01


def test_one_trial_at_a_time_gives_what_the_policy_suggests():
    """Every result is used: nothing is planned ahead."""
    from metahpo.suggest.plugin import trial_seed
    from metahpo.suggest.policy import suggest

    search, history = searcher(limit=1, history=past()), [past()]
    for number in range(6):
        task = sweep_task(search)
        expected = suggest(
            task, history, seed=trial_seed(0, number), define_by_run=False
        ).configurations[0]
        (config,) = run(search, [number])
        assert {"x": config["x"], "model/lr": config["model"]["lr"]} == expected


def test_the_first_trials_come_from_history():
    config = searcher(history=past()).suggest("a")
    assert loss(config) < 0.5


def test_parallel_trials_are_not_repeated_and_use_results():
    search = searcher(limit=4, history=past())
    running, tried = {}, []
    for number in range(16):
        config = search.suggest(f"t{number}")
        running[f"t{number}"] = config
        tried.append((config["x"], config["model"]["lr"]))
        if len(running) == 4:
            assert search.suggest("more") is None
            first = next(iter(running))
            search.on_trial_complete(first, result(loss(running.pop(first))))
    assert len(set(tried)) == 16
    assert min(abs(x - 2) for x, _ in tried) < 0.3


def test_a_plan_is_discarded_when_a_generation_has_ended():
    search = searcher(limit=3)
    for trial_id in "abc":
        search.suggest(trial_id)
    search._plan.settle()
    assert len(search._plan.ready) == 1
    for number, trial_id in enumerate("abc"):
        search.on_trial_complete(trial_id, result(float(number)))
    assert search._plan.ended == 0
    search.suggest("d")
    # It was made with all three results.
    assert search._plan.ended == 3


def test_a_recent_plan_is_used():
    search = searcher(limit=3)
    for trial_id in "abc":
        search.suggest(trial_id)
    search._plan.settle()
    ((ahead, _),) = search._plan.ready
    search.on_trial_complete("b", result(1.0))
    config = search.suggest("d")
    assert {"x": config["x"], "model/lr": config["model"]["lr"]} == ahead


def test_a_concurrency_limiter_passes_its_limit_on():
    search = searcher()
    limiter = ConcurrencyLimiter(search, max_concurrent=2)
    assert [limiter.suggest(i) is None for i in "abc"] == [False, False, True]
    limiter.on_trial_complete("a", result(1.0))
    assert limiter.suggest("c") is not None


def test_equal_seeds_give_equal_suggestions_and_others_do_not():
    assert run(searcher(seed=1), range(3)) == run(searcher(seed=1), range(3))
    first, second = (run(searcher(seed=s, surrogate="gp"), range(1)) for s in (1, 2))
    assert first != second


# ---- points --------------------------------------------------------------------------------


def test_points_to_evaluate_are_run_unchanged_and_first():
    points = [
        {"x": 1.5, "model": {"lr": 0.02}},
        {"x": 7.0, "model/lr": 1e-9, "extra": "kept"},  # beyond the bounds
        {"x": -1.0},
    ]
    search = searcher(points_to_evaluate=points)
    first, second, third = run(search, range(3))
    assert first == points[0]
    assert second == {"x": 7.0, "model": {"lr": 1e-9}, "extra": "kept"}
    assert third["x"] == -1.0
    assert 1e-4 <= third["model"]["lr"] <= 1
    assert [t.configuration["x"] for t in sweep_task(search).trials] == [1.5, 7.0, -1.0]
    assert run(search, [3])[0]["x"] not in (1.5, 7.0, -1.0)


def test_points_of_numpy_values_are_run_unchanged_and_saved_as_plain_numbers(tmp_path):
    point = {"x": np.float32(0.5), "model": {"lr": np.float64(0.02)}}
    search = searcher(points_to_evaluate=[point])
    (config,) = run(search, [1])
    assert [type(config["x"]), type(config["model"]["lr"])] == [float, float]
    search.save(str(tmp_path / "state"))
    again = MetaSearch()
    again.restore(str(tmp_path / "state"))
    (trial,) = sweep_task(again).trials
    assert trial.configuration == {"x": 0.5, "model/lr": 0.02}


def test_points_to_evaluate_may_be_conditional():
    model = tune.choice(
        [{"kind": "svm", "C": tune.uniform(0, 1)}, {"kind": "net", "lr": tune.uniform(0, 1)}]
    )
    point = {"model": {"kind": "net", "lr": 0.25}}
    search = MetaSearch({"model": model}, "loss", "min", points_to_evaluate=[point])
    assert search.suggest("a") == point
    assert sweep_task(search).trials[0].configuration == {"model/kind": "net", "model/lr": 0.25}


@pytest.mark.parametrize("surrogate", ["neural", "gp"])
def test_what_a_point_leaves_out_is_optimised_for_what_it_says(surrogate):
    """The best "b" is 1 - a; of random ones within 6 trials, the best lies 0.02 from it."""
    space = {"a": tune.uniform(0, 1), "b": tune.uniform(0, 1)}

    def value(config) -> float:
        return config["a"] + (config["a"] + config["b"] - 1) ** 2

    search = MetaSearch(
        space, "loss", "min", seed=0, surrogate=surrogate,
        points_to_evaluate=[{"a": a} for a in (*np.linspace(0, 0.9, 8), *[0.8] * 6)],
    )  # fmt: skip
    configs = run(search, range(14), value)
    assert [config["a"] for config in configs[8:]] == [0.8] * 6
    assert min(value(config) for config in configs[8:]) == pytest.approx(0.8, abs=2e-3)


def test_points_with_rewards_are_learned_from_and_not_run():
    points = [{"x": 2.0, "model": {"lr": 1e-4}}, {"x": -4.0, "model/lr": 1.0}]
    search = searcher(points_to_evaluate=points, evaluated_rewards=[0.0001, 37.0])
    assert search.suggest("a") not in points
    assert [trial.value for trial in sweep_task(search).observed] == [-0.0001, -37.0]


def test_trials_that_were_run_elsewhere_are_added():
    search = searcher()
    point = {"x": 1.0, "model": {"lr": 0.1}}
    search.add_evaluated_point(point, 1.1, intermediate_values=[5.0, 3.0])
    search.add_evaluated_point(point, 1.0, error=True)
    search.add_evaluated_point(point, 9.0, pruned=True)
    first, failed, pruned = sweep_task(search).trials
    assert (first.value, len(first.curve)) == (-1.1, 3)
    assert failed.value is None
    assert pruned.value == -9.0


# ---- results -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, None, "text", True, [], np.bool_(True), np.complex64(1),
     np.ones(2), torch.ones(2), torch.tensor(math.nan), np.str_("1")],
)  # fmt: skip
def test_a_value_that_is_not_finite_is_a_failure(value):
    search = searcher()
    run(search, range(3))
    search.suggest("bad")
    search.on_trial_result("bad", result(value))
    search.on_trial_complete("bad", result(value))
    assert sweep_task(search).trials[-1].state is TrialState.FAILED
    assert math.isfinite(run(search, [9])[0]["x"])


@pytest.mark.parametrize(
    "make",
    [np.float16, np.float32, np.int8, np.uint64, np.longdouble, np.array, torch.tensor, Decimal,
     lambda value: np.array([value]), lambda value: torch.tensor([value], requires_grad=True)],
)  # fmt: skip
def test_values_of_any_numerical_type_are_numbers(tmp_path, make):
    search = searcher()
    search.suggest("a")
    search.on_trial_result("a", result(make(2.0), iteration=np.int64(3)))
    search.on_trial_complete("a", result(make(5.0), iteration=np.array(7)))
    search.add_evaluated_point({"x": make(1.0)}, make(2.0), intermediate_values=np.ones(2))
    search.save(str(tmp_path / "state"))
    again = MetaSearch()
    again.restore(str(tmp_path / "state"))
    ended, evaluated = sweep_task(again).trials
    assert ended.curve == ((3, -2.0), (7, -5.0))
    assert evaluated.value == -2.0


@pytest.mark.parametrize(
    "make",
    [np.float16, np.float32, np.int8, np.uint64, np.longdouble, np.array, torch.tensor, Decimal],
)
def test_points_and_rewards_may_be_numbers_of_any_type(tmp_path, make):
    points = [{"x": make(2), "model": {"lr": make(1)}}, {"x": make(4), "model/lr": make(1)}]
    for rewards in (None, [make(0), make(3)], np.array([0.0, 3.0])):
        search = searcher(
            limit=np.int64(4), seed=np.int32(7), points_to_evaluate=points,
            evaluated_rewards=rewards,
        )  # fmt: skip
        first = search.suggest("a")
        assert (first == points[0]) is (rewards is None)
        search.save(str(tmp_path / "state"))
        again = MetaSearch()
        again.restore(str(tmp_path / "state"))
        known = sweep_task(again).trials[0].configuration
        if make not in (torch.tensor, Decimal):
            assert (known["x"], known["model/lr"]) == (2, 1)
            assert type(known["x"]) in (int, float)


@pytest.mark.parametrize("reward", ["a", None, True, 1j, [1, 2]])
def test_a_reward_that_is_no_number_is_an_error(reward):
    with pytest.raises(TypeError, match="evaluated_rewards must be numbers"):
        MetaSearch(points_to_evaluate=[{}], evaluated_rewards=[reward])


def test_points_may_hold_arrays_where_the_space_has_objects(tmp_path):
    start = np.zeros(3)
    space = {"x": tune.uniform(0, 1), "start": tune.choice([start, np.ones(3)])}
    points = [{"x": 0.5, "start": array} for array in space["start"].categories]
    search = MetaSearch(space, "loss", "min", points_to_evaluate=points)
    assert search.suggest("a")["start"] is start
    assert search.suggest("b")["start"] is points[1]["start"]
    ran = [search._ledger[trial_id].configuration["start"] for trial_id in "ab"]
    assert ran[0] != ran[1]
    search.save(str(tmp_path / "state"))


def test_a_trial_whose_results_lack_the_metric_has_failed():
    search = searcher()
    search.suggest("a")
    search.on_trial_result("a", {"training_iteration": 1})
    search.on_trial_complete("a", {"training_iteration": 2})
    assert sweep_task(search).failed
    assert search.suggest("b")


def test_a_trial_that_ends_with_an_error_has_no_value():
    search = searcher(limit=1)
    search.suggest("a")
    search.on_trial_result("a", result(1.0))
    search.on_trial_complete("a", error=True)
    assert sweep_task(search).trials[0].value is None
    assert search.suggest("b") is not None


def test_the_last_report_counts_where_a_scheduler_stops_a_trial():
    """HyperBand does; the last report counts."""
    search = searcher(limit=1)
    search.suggest("a")
    search.on_trial_result("a", result(3.0, 1))
    search.on_trial_result("a", result(2.0, 2))
    search.on_trial_complete("a", result=None)
    assert sweep_task(search).trials[0].value == -2.0
    search.suggest("b")
    search.on_trial_complete("b")  # before it reported anything
    assert sweep_task(search).trials[1].state is TrialState.FAILED
    assert search.suggest("c") is not None


def test_a_trial_that_was_stopped_early_counts_as_pruned():
    search = searcher()
    for trial_id, iteration in (("a", 9), ("b", 2)):
        search.suggest(trial_id)
        search.on_trial_complete(trial_id, result(1.0, iteration))
    assert [t.state for t in sweep_task(search).trials] == [TrialState.COMPLETE, TrialState.PRUNED]


def test_the_later_report_of_an_iteration_counts():
    search = searcher()
    search.suggest("a")
    for iteration, value in ((1, 5.0), (2, 4.0), (3, 3.0), (2, 4.5), (3, 3.5)):
        search.on_trial_result("a", result(value, iteration))
    search.on_trial_complete("a", result(3.5, 3))
    assert sweep_task(search).trials[0].curve == ((1, -5.0), (2, -4.5), (3, -3.5))


def test_a_running_trial_is_pending():
    search = searcher()
    search.suggest("a")
    search.on_trial_result("a", result(1.0))
    (trial,) = sweep_task(search).trials
    assert (trial.state, trial.value) == (TrialState.RUNNING, None)


def test_a_failed_trial_that_reports_again_is_running():
    search = searcher()
    search.suggest("a")
    search.on_trial_complete("a", error=True)
    search.on_trial_result("a", result(2.0, 1))
    assert sweep_task(search).running
    search.on_trial_complete("a", result(1.0, 2))
    assert sweep_task(search).trials[0].value == -1.0


def test_a_trial_under_an_unknown_name_is_added_from_its_result():
    """Ray restarts errored trials under other names; results hold the configuration."""
    search = searcher()
    search.on_trial_complete("unknown")
    search.on_trial_result("unknown", {"loss": 1.0})
    assert not sweep_task(search).trials
    config = {"config/x": 1.0, "config/model/lr": 0.1, "config/k": 3}
    search.on_trial_complete("other", {**result(1.0), **config})
    assert sweep_task(search).trials[0].configuration == {"x": 1.0, "model/lr": 0.1}


def test_a_model_that_fails_does_not_end_the_sweep(monkeypatch, caplog):
    def fail(*_, **__):
        raise ModelError("singular")

    monkeypatch.setattr("metahpo.suggest.policy.suggest", fail)
    search = searcher(limit=3)
    assert all(search.suggest(str(i)) for i in range(3))
    assert caplog.text.count("the model failed") == 1
    assert "fallback" in search.explain("0")


def test_an_explanation_names_the_source_and_the_past_tasks():
    search = searcher(history=past())
    run(search, range(3))
    assert "portfolio" in search.explain("t0")
    assert "past (100%)" in search.explain("t2")
    with pytest.raises(ValueError, match="knows no trial 'unknown'"):
        search.explain("unknown")


def test_given_points_are_explained_too():
    points = [{"x": 1.0, "model": {"lr": 0.1}}, {"x": 1.0}]
    search = searcher(points_to_evaluate=points, history=past())
    run(search, range(2))
    assert search.explain("t0").endswith("was given, not suggested by MetaSearch.")
    assert "Given beforehand: x." in search.explain("t1")


# ---- saving and restoring ------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, 1, 3])
def test_a_restored_sweep_continues_as_if_never_interrupted(tmp_path, limit):
    path = str(tmp_path / "state")
    once = run(searcher(limit, history=past()), range(10))
    first = searcher(limit, history=past())
    configs = run(first, range(5))
    first.save(path)
    second = MetaSearch(history=past())
    if limit is not None:
        second.set_max_concurrency(limit)
    second.restore(path)
    assert configs + run(second, range(5, 10)) == once


def test_the_saved_state_is_json_and_written_atomically(tmp_path):
    """JSON without a pickle, written as a whole."""
    search = searcher(limit=2, history=past(), points_to_evaluate=[{"x": 1.0}])
    run(search, range(4))
    search.suggest("running")
    search.save(str(tmp_path / "state"))
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    state = json.loads((tmp_path / "state").read_text())
    assert len(state["ledger"]["trials"]) == 5
    before = (tmp_path / "state").read_text()
    search._seed = object()  # what JSON cannot hold
    with pytest.raises(TypeError):
        search.save(str(tmp_path / "state"))
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert (tmp_path / "state").read_text() == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"metahpo": 99}', "\x80\x04"])
def test_another_file_is_not_restored(tmp_path, text):
    (tmp_path / "state").write_text(text)
    with pytest.raises(ValueError, match=r"not a saved state|newer version"):
        MetaSearch().restore(str(tmp_path / "state"))


def test_a_resumed_experiment_goes_on_with_its_running_trials(tmp_path):
    """The saved state has its own space, metric and mode: Ray gives none."""
    search = SearchGenerator(searcher(limit=2))
    search.searcher.suggest("a")
    search.save_to_dir(str(tmp_path), "session")
    again = MetaSearch()
    again.set_max_concurrency(2)
    resumed = SearchGenerator(again)
    assert resumed.has_checkpoint(str(tmp_path))
    resumed.restore_from_dir(str(tmp_path))
    assert (again.metric, again.mode) == ("loss", "min")
    assert again.suggest("b") is not None
    assert again.suggest("c") is None  # "a" still runs
    again.on_trial_complete("a", result(1.0))
    assert again.suggest("c") is not None


def test_a_new_sweep_does_not_wait_for_the_trials_of_the_former(tmp_path):
    path = str(tmp_path / "state")
    first = searcher(limit=1)
    first.suggest("a")
    first.save(path)
    second = MetaSearch()
    second.set_max_concurrency(1)
    second.restore(path)
    assert second.suggest("b") is not None
    assert second.suggest("c") is None


def test_a_saved_space_with_functions_must_be_given_again(tmp_path):
    path = str(tmp_path / "state")
    space = {"x": tune.uniform(0, 1), "f": tune.sample_from(lambda config: config["x"])}
    search = MetaSearch(space, "loss", "min", seed=0)
    search.suggest("a")
    search.save(path)
    with pytest.raises(ValueError, match="give `space` to MetaSearch again"):
        MetaSearch().restore(path)
    again = MetaSearch(space)
    again.restore(path)
    config = again.suggest("b")
    assert config["f"] == config["x"]


def test_a_restored_search_keeps_the_constants_of_its_space(tmp_path):
    path = str(tmp_path / "state")
    constants = {"k": 3, "deep": {"none": None, "pair": (1, "a"), "n": np.int64(2)}, 7: [np.nan]}
    first = MetaSearch({**SPACE, **constants}, "loss", "min", seed=0)
    whole = first.suggest("a")
    first.save(path)
    second = MetaSearch()
    second.restore(path)
    config = second.suggest("b")
    assert repr(config | {"x": 0, "model": 0}) == repr(whole | {"x": 0, "model": 0})
    assert type(config["deep"]["n"]) is int


@pytest.mark.parametrize("own", [True, False])
def test_a_restored_search_leaves_constants_to_ray_if_its_space_was_rays(tmp_path, own):
    first = MetaSearch(SPACE, "loss", "min", seed=0) if own else searcher()
    first.suggest("a")
    SearchGenerator(first).save_to_dir(str(tmp_path), "session")
    again = MetaSearch()
    SearchGenerator(again).restore_from_dir(str(tmp_path))
    assert ("k" in again.suggest("b")) is own


@pytest.mark.parametrize("before", [True, False])
def test_a_space_that_ray_gives_beside_a_restored_state_counts(tmp_path, before):
    path = str(tmp_path / "state")
    first = MetaSearch({**SPACE, "only": "here"}, "loss", "min", seed=0)
    first.suggest("a")
    first.save(path)
    second = MetaSearch()
    steps = [
        lambda: second.set_search_properties("loss", "min", {**SPACE, "z": tune.uniform(0, 1)}),
        lambda: second.restore(path),
    ]
    for step in steps if before else reversed(steps):
        step()
    assert second.suggest("b").keys() == {"x", "model", "z"}


def test_constants_that_ray_gives_after_a_restore_change_a_restored_space(tmp_path):
    path = str(tmp_path / "state")
    first = MetaSearch({**SPACE, "only": "here"}, "loss", "min", seed=0)
    first.save(path)
    second = MetaSearch()
    second.restore(path)
    assert second.set_search_properties("loss", "min", {"k": 4, "model": {"width": 8}})
    config = second.suggest("b")
    assert (config["k"], config["only"], config["model"]["width"]) == (4, "here", 8)
    assert "lr" in config["model"]


def _ask(search: MetaSearch, numbers) -> list[dict]:
    """Trials that fail: their suggestions cost little."""
    configs = []
    for number in numbers:
        configs.append(search.suggest(f"t{number}"))
        search.on_trial_complete(f"t{number}", error=True)
    return configs


def _five_and_five_equal_ten(space, *, given_again: bool) -> None:
    with TemporaryDirectory() as folder:
        ten = _ask(MetaSearch(space, "loss", "min", seed=1), range(10))
        first = MetaSearch(space, "loss", "min", seed=1)
        five = _ask(first, range(5))
        first.save(f"{folder}/state")
        second = MetaSearch(space if given_again else None)
        second.restore(f"{folder}/state")
        # By their text: NaN, and classes of numbers.
        assert repr(five + _ask(second, range(5, 10))) == repr(ten)


in_spaces = partial(
    settings,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
may_choose_numpy = pytest.mark.filterwarnings("ignore:Choices for a categorical:UserWarning")


@may_choose_numpy
@in_spaces(max_examples=6)
@given(spaces())
def test_five_trials_and_five_after_a_restore_equal_ten_in_any_space(space):
    _five_and_five_equal_ten(space, given_again=False)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@may_choose_numpy
@in_spaces(max_examples=500)
@given(spaces())
def test_five_trials_and_five_after_a_restore_equal_ten_in_many_spaces(space):
    _five_and_five_equal_ten(space, given_again=False)


@may_choose_numpy
@in_spaces(max_examples=3)
@given(spaces(1), st.sampled_from([b"bytes", frozenset({1}), len, math.sin]))
def test_five_trials_and_five_equal_ten_where_a_space_with_objects_is_given_again(space, thing):
    space = {
        "space": space,
        "thing": thing,
        "things": tune.choice([thing, {"y": tune.uniform(0, 1)}]),
        "made": tune.sample_from(lambda config: str(config["things"])),
    }
    _five_and_five_equal_ten(space, given_again=True)


def test_a_searcher_with_a_plan_under_way_can_be_pickled():
    """Tuner pickles it at construction."""
    search = searcher(limit=3, history=[past()])
    for trial_id in "abc":
        search.suggest(trial_id)
    again = cloudpickle.loads(cloudpickle.dumps(search))
    search.on_trial_complete("a", result(1.0))
    again.on_trial_complete("a", result(1.0))
    assert again.suggest("d") == search.suggest("d")


# ---- history -------------------------------------------------------------------------------


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    for number in range(1, 6):
        write_trial(tmp_path / "run", number, params(number), [0.1 * number])
    return str(tmp_path / "run")


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'hpo.sqlite3'}"
    study = optuna.create_study(storage=url, study_name="study", direction="minimize")
    for x in (0.1, 0.2, 0.3):
        study.tell(study.ask({"x": FloatDistribution(0, 1)}), x)
    return url


def names(search: MetaSearch) -> list[str]:
    return [task.name for task in search._task_and_history()[1]]


def test_every_kind_of_source_is_history(experiment, url, tmp_path):
    Archive(tmp_path / "archive").add(past())
    study = optuna.create_study(study_name="in memory")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    everything = [experiment, url, tmp_path / "archive", study, Archive(tmp_path / "archive")]
    search = MetaSearch({"x": tune.uniform(0, 1)}, "eval/acc", "max", history=everything, seed=0)
    assert search.suggest("a")
    # The archive that was given twice has no times by which to tell.
    assert names(search) == ["run", "study", "past", "in memory", "past (2)"]


def test_a_history_that_does_not_exist_is_an_error_that_names_it(tmp_path):
    with pytest.raises(SourceError, match=r"nowhere.*archive: .*optuna: .*ray: "):
        searcher(history=str(tmp_path / "nowhere")).suggest("a")


def test_the_first_sweep_in_a_shared_folder_has_no_history_and_no_error(tmp_path):
    """Ray makes the sweep's own folder there before the first suggestion."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / ".validate_storage_marker").write_bytes(b"")
    search = searcher(history=tmp_path)
    assert search.suggest("a")
    assert names(search) == []


@pytest.mark.parametrize("history", [[], ()])
def test_an_empty_list_is_no_history_and_no_error(history):
    assert searcher(history=history).suggest("a")


def test_a_database_without_finished_trials_is_an_error(tmp_path):
    url = f"sqlite:///{tmp_path / 'new.db'}"
    optuna.create_study(storage=url)
    with (
        pytest.raises(SourceError, match=r"new\.db holds no past task"),
        pytest.warns(SourceWarning),
    ):
        searcher(history=url).suggest("a")


def test_an_experiment_without_the_metric_is_an_error(experiment):
    with pytest.raises(SourceError, match="no trial reported the metric 'loss_of'"):
        MetaSearch(SPACE, "loss_of", "min", history=experiment).suggest("a")


def test_a_sweep_is_never_its_own_history(experiment):
    """A resumed sweep finds its own folder beside the others."""
    space = {"model": {"lr": tune.loguniform(1e-6, 1), "layers": tune.randint(1, 9)}}
    search = MetaSearch(space, "eval/acc", "max", history=experiment)
    assert names(search) == ["run"]
    resumed = MetaSearch(space, "eval/acc", "max", history=experiment)
    for number in range(1, 6):
        resumed.add_evaluated_point(params(number), 0.1 * number)
    assert names(resumed) == []


@pytest.mark.filterwarnings("ignore:Choices for a categorical:UserWarning")
def test_choices_of_past_tasks_may_be_lists():
    layers = CategoricalDistribution([[16, 16], [32]])  # type: ignore[list-item]
    configurations = [{"layers": [16, 16]}, {"layers": [32]}, {"layers": [16, 16]}]
    trials = tuple(Trial(c, float(i)) for i, c in enumerate(configurations))
    past = Task("past", Space({"layers": layers}), trials)
    search = MetaSearch({"layers": tune.choice([[16, 16], [32]])}, "acc", "max", history=[past])
    assert search.suggest("a")["layers"] in ([16, 16], [32])


# ---- imports -------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["metahpo", "optuna_meta", "metahpo.cli", "raytune_meta"])
def test_importing_a_package_does_not_import_ray(package):
    program = f"import sys, {package}; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    """It says what to install; reading experiments works all the same."""
    monkeypatch.setitem(sys.modules, "ray.tune", None)
    package = importlib.import_module("raytune_meta")
    assert package.read_experiment
    with pytest.raises(ImportError, match=r"pip install 'metahpo\[ray\]'"):
        _ = package.MetaSearch
    with pytest.raises(AttributeError):
        _ = package.nothing


@pytest.mark.parametrize(
    "number",
    [torch.tensor(0.5), torch.tensor([0.5]), Decimal("0.5"), Fraction(1, 2), np.array([0.5]),
     np.float32(0.5), np.array(0.5), 0.5],
    ids=lambda number: f"{type(number).__name__}",
)  # fmt: skip
def test_points_may_hold_numbers_of_any_library(number: Any) -> None:
    space = {"lr": tune.uniform(0.0, 1.0), "layers": [tune.uniform(0.0, 1.0), 7]}
    point = {"lr": number, "layers": [number, 8]}
    search = MetaSearch(space, "loss", "min", points_to_evaluate=[point], seed=0)
    ran = search.suggest("a")
    assert ran == {"lr": 0.5, "layers": [0.5, 8]}
    assert type(ran["lr"]) is type(ran["layers"][0]) is float
    assert search._ledger["a"].configuration == {"lr": 0.5, "layers/0": 0.5}
    assert search._ledger["a"].decision is None
    learned = MetaSearch(
        space, "loss", "min", points_to_evaluate=[point], evaluated_rewards=[number], seed=0
    )
    learned.suggest("b")
    assert learned._ledger["evaluated-0"].configuration == {"lr": 0.5, "layers/0": 0.5}


def test_what_is_no_value_of_a_domain_is_left_out_of_a_point_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    space = {
        "lr": tune.uniform(0.0, 1.0),
        "net": tune.choice([{"kind": "svm"}, {"kind": "tree", "depth": tune.randint(1, 5)}]),
        "sizes": [tune.randint(1, 5)],
    }
    point = {"lr": np.array([0.1, 0.2]), "net": {"kind": "forest"}, "sizes": [1, 2], "more": 3}
    search = MetaSearch(space, "loss", "min", points_to_evaluate=[point], seed=0)
    with caplog.at_level("WARNING"):
        ran = search.suggest("a")
    assert "'lr', 'net', 'sizes'" in caplog.text
    assert ran is not None
    assert ran["more"] == 3
    assert search._ready_space().read(ran) == search._ledger["a"].configuration


def test_choices_of_numbers_of_other_libraries_are_plain_and_restored(tmp_path: Path) -> None:
    space = {"a": tune.choice([Decimal(1), Decimal("2.5")]), "b": tune.choice([Fraction(1, 2), 3])}
    search = MetaSearch(space, "loss", "min", seed=0)
    first = search.suggest("a")
    assert first is not None
    assert {type(value) for value in first.values()} <= {int, float}
    search.save(str(tmp_path / "state"))
    restored = MetaSearch(metric="loss", mode="min")
    restored.restore(str(tmp_path / "state"))
    assert restored.suggest("b") is not None
