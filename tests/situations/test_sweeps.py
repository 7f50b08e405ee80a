"""Sweeps as users of Ray Tune report them; each docstring names the public report.

Those that need Ray's controller run on the one local Ray of the test process; the others drive the
searcher as Ray does, through its own wrappers.
"""

import math

import numpy as np
import pytest

pytest.importorskip("ray.tune", reason="Ray is not installed: pip install 'metahpo[ray]'")

from optuna.distributions import CategoricalDistribution, FloatDistribution
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter, Repeater
from ray.tune.search.search_generator import SearchGenerator
from support.ray_trainables import report_nested

from raytune_meta import MetaSearch

SPACE = {"x": tune.uniform(0, 1), "y": tune.uniform(0, 1)}


def loss(config) -> float:
    return (config["x"] - 0.3) ** 2 + (config["y"] - 0.7) ** 2


def searcher(space=None, **arguments) -> MetaSearch:
    """A searcher that has its space, metric and mode from Ray."""
    search = MetaSearch(**{"seed": 0, **arguments})
    assert search.set_search_properties("loss", "min", SPACE if space is None else space)
    return search


def complete(search, trial_id: str, value: float) -> None:
    search.on_trial_complete(trial_id, {"loss": value, "training_iteration": 1})


def run(search, count: int, value=loss, first: int = 0) -> list[dict]:
    """One trial after the other."""
    configs = []
    for number in range(first, first + count):
        configs.append(search.suggest(f"t{number}"))
        complete(search, f"t{number}", value(configs[-1]))
    return configs


# ---- spaces --------------------------------------------------------------------------------


def test_parameters_of_a_choice_are_there_while_it_is_chosen():
    """ray-project/ray#15399: each configuration holds the parameters of its own choice."""
    space = {
        "net": tune.choice([
            {"depth": 1, "a": tune.randint(10, 20)},
            {"depth": 2, "a": tune.randint(10, 20), "b": tune.uniform(0, 1)},
        ])
    }  # fmt: skip
    configs = run(searcher(space), 8, lambda c: c["net"]["a"] + c["net"].get("b", 5))
    assert {c["net"]["depth"] for c in configs} == {1, 2}
    assert all(("b" in c["net"]) == (c["net"]["depth"] == 2) for c in configs)


def test_an_integer_with_one_value_is_that_value():
    """ray-project/ray#13537: `randint(1, 2)` is 1, never 0."""
    configs = run(searcher({**SPACE, "num_layers": tune.randint(1, 2)}), 4)
    assert {c["num_layers"] for c in configs} == {1}


NUMPY_DOMAINS = {
    "randint": tune.randint(np.int64(1), np.int64(9)),
    "lograndint": tune.lograndint(np.int32(1), np.int32(9)),
    "uniform": tune.uniform(np.float32(0.0), np.float32(1.0)),
    "loguniform": tune.loguniform(np.float32(1e-3), np.float32(1.0)),
    "quniform": tune.quniform(np.float32(0.0), np.float32(1.0), np.float32(0.25)),
    "randn": tune.randn(np.float32(0.0), np.float32(1.0)),
}


@pytest.mark.parametrize("kind", NUMPY_DOMAINS)
def test_bounds_from_numpy_are_plain_numbers_in_configurations_and_in_what_is_saved(
    kind, tmp_path
):
    """ray-project/ray#2243, mended: plain numbers, so that the sweep's state can be written."""
    search = searcher({"p": NUMPY_DOMAINS[kind]})
    configs = run(search, 4, lambda c: float(c["p"]))
    search.save(str(tmp_path / "state"))
    again = MetaSearch()
    again.restore(str(tmp_path / "state"))
    assert len(again._ledger) == 4
    assert all(type(c["p"]) in (int, float) for c in configs)


@pytest.mark.parametrize("value", [np.int64(16), np.zeros(2)], ids=["scalar", "array"])
def test_arrays_and_scalars_of_numpy_may_be_constants_choices_and_points(value, tmp_path):
    """ray-project/ray#2243, mended: they reach the trial as they are, and plain what is saved."""
    space = {**SPACE, "constant": value, "choice": tune.choice([value, value + 1])}
    points = [{"x": np.float32(0.5), "y": np.float64(0.25)}]
    search = MetaSearch(space, "loss", "min", points_to_evaluate=points, seed=0)
    configs = run(search, 3)
    assert (configs[0]["x"], configs[0]["y"]) == (0.5, 0.25)
    search.save(str(tmp_path / "state"))
    again = MetaSearch(space)
    again.restore(str(tmp_path / "state"))
    (config,) = run(again, 1, first=3)
    assert np.array_equal(config["constant"], value)
    assert any(np.array_equal(config["choice"], value + i) for i in (0, 1))


def test_optunas_distributions_state_a_space_whole_and_nested():
    """ray-project/tune-sklearn#226, mended: Optuna's distributions state a space as domains do."""
    space = {
        "lr": FloatDistribution(1e-5, 1e-1, log=True),
        "model": {"kind": CategoricalDistribution(["a", "b"]), "width": tune.randint(1, 5)},
        "layers": [FloatDistribution(0, 1), 3],
    }
    search = MetaSearch(space, "loss", "min", seed=0)
    for config in run(search, 4, lambda c: c["lr"]):
        assert isinstance(config["lr"], float)
        assert config["model"]["kind"] in ("a", "b")
        assert isinstance(config["layers"][0], float)
        assert config["layers"][1] == 3


def test_a_choice_between_a_distribution_and_a_constant_resolves_to_a_value():
    """ray-project/tune-sklearn#226, mended: the same within a choice."""
    space = {"c": tune.choice([{"kind": "off"}, {"kind": "on", "p": FloatDistribution(0, 1)}])}
    search = MetaSearch(space, "loss", "min", seed=0)
    for config in run(search, 8, lambda c: c["c"].get("p", 0.5)):
        assert isinstance(config["c"].get("p", 0.5), float)


def test_a_grid_is_refused_with_the_name_of_the_parameter():
    """ray-project/ray#26103: an error in Ray's words with the name of the parameter."""
    with pytest.raises(ValueError, match=r"Grid search parameters cannot be .*'width'"):
        searcher({**SPACE, "width": tune.grid_search([1, 2])})


# ---- points --------------------------------------------------------------------------------


def test_points_to_evaluate_come_first_with_all_that_they_hold():
    """ray-project/ray#13576: the points, constants included, then others."""
    space = {"seed": 0, "heads": tune.choice([2, 3, 4]), "dropout": tune.uniform(0, 0.7)}
    points = [{"seed": 0, "heads": 4, "dropout": 0.0}, {"seed": 0, "heads": 2, "dropout": 0.7}]
    search = searcher(space, points_to_evaluate=points)
    configs = run(search, 4, lambda c: c["dropout"])
    assert configs[:2] == points
    assert len({(c["heads"], c["dropout"]) for c in configs}) == 4


def test_points_hold_lists_where_choices_do():
    """ray-project/ray#37582: a point may hold a list where a choice does."""
    space = {"a": tune.choice([[1], [1, 2], [3]]), "b": tune.uniform(0, 1)}
    search = searcher(space, points_to_evaluate=[{"a": [1, 2], "b": 0.5}])
    configs = run(search, 5, lambda c: len(c["a"]) + c["b"])
    assert configs[0] == {"a": [1, 2], "b": 0.5}
    assert all(c["a"] in ([1], [1, 2], [3]) for c in configs)


def test_points_are_not_run_again_when_the_sweep_is_resumed(tmp_path):
    """ray-project/ray#11854: the points that were run before do not run again."""
    points = [{"x": 0.1, "y": 0.1}, {"x": 0.9, "y": 0.9}]
    first = searcher(points_to_evaluate=points)
    run(first, 1)
    first.save(str(tmp_path / "state"))
    second = MetaSearch(points_to_evaluate=points)
    second.restore(str(tmp_path / "state"))
    configs = run(second, 2, first=1)
    assert configs[0] == points[1]
    assert configs[1] not in points


def test_points_with_rewards_are_learned_from_and_not_run():
    """ray-project/ray#18587: the first suggestions use the known rewards."""
    grid = [{"x": i / 4, "y": j / 4} for i in range(5) for j in range(5)]
    search = searcher(points_to_evaluate=grid, evaluated_rewards=[loss(p) for p in grid])
    configs = run(search, 3)
    assert min(map(loss, configs)) < 0.02


def test_values_that_a_point_leaves_open_are_chosen_given_those_that_it_fixes():
    """optuna/optuna#6634, mended: the open values suit the fixed ones."""
    grid = [{"x": i / 5, "y": j / 5} for i in range(6) for j in range(6)]
    search = searcher(points_to_evaluate=[{"x": 0.1}, {"x": 0.5}, {"x": 0.9}])
    for point in grid:
        search.add_evaluated_point(point, (point["x"] - point["y"]) ** 2)
    configs = run(search, 3, lambda c: (c["x"] - c["y"]) ** 2)
    assert max(abs(c["x"] - c["y"]) for c in configs) < 0.25


# ---- results -------------------------------------------------------------------------------


def test_results_after_the_end_of_a_trial_are_ignored():
    """ray-project/ray#19274: a late result changes nothing and raises nothing."""
    search = searcher()
    search.suggest("a")
    complete(search, "a", 1.0)
    search.on_trial_result("a", {"loss": 0.0, "training_iteration": 2})
    complete(search, "a", 0.0)
    assert search._ledger["a"].reports == {1: 1.0}


def test_results_without_the_metric_are_skipped():
    """ray-project/ray#15876: they are skipped, and the other results of the trial count."""
    search = searcher()
    search.suggest("a")
    search.on_trial_result("a", {"training_iteration": 1})
    search.on_trial_result("a", {"training_iteration": 2, "loss": 0.5})
    search.on_trial_complete("a", {"training_iteration": 3})
    assert search._ledger["a"].reports == {2: 0.5}
    assert search.suggest("b") is not None


def test_a_metric_that_is_nan_does_not_lead_the_search():
    """ray-project/ray#29013: such trials count as failed, and the search leaves them."""
    search = searcher()
    configs = run(search, 10, lambda c: math.nan if c["x"] > 0.5 else loss(c))
    assert sum(c["x"] <= 0.5 for c in configs[5:]) >= 3


def test_a_result_of_an_unknown_trial_after_a_resume_is_taken(tmp_path):
    """ray-project/ray#14814: it becomes part of the sweep instead of a KeyError."""
    first = searcher()
    run(first, 2)
    first.save(str(tmp_path / "state"))
    second = MetaSearch()
    second.restore(str(tmp_path / "state"))
    result = {"loss": 0.5, "training_iteration": 1, "config/x": 0.2, "config/y": 0.8}
    second.on_trial_result("977090b3", result)
    second.on_trial_complete("977090b3", result)
    assert len(second._ledger) == 3
    assert second.suggest("next") is not None


def test_a_metric_given_to_the_searcher_need_not_be_given_to_ray():
    """ray-project/ray#6268: the searcher's own metric is read, whatever the scheduler's is."""
    search = MetaSearch(metric="accuracy", mode="max", seed=0)
    assert search.set_search_properties(None, None, SPACE)
    search.suggest("a")
    search.on_trial_complete("a", {"accuracy": 0.5, "loss": 1.0, "training_iteration": 1})
    assert search._ledger["a"].reports == {1: 0.5}


# ---- wrappers and limits -------------------------------------------------------------------


def test_a_searcher_does_not_stop_when_its_space_is_small():
    """ray-project/ray#28063: all four configurations, then repetitions without an end."""
    space = {"width": tune.choice([1, 2]), "height": tune.choice([1, 2])}
    configs = run(searcher(space), 8, lambda c: c["width"])
    assert None not in configs
    assert len({tuple(c.values()) for c in configs[:4]}) == 4


def test_repeated_trials_give_their_mean():
    """ray-project/ray#43489: within Repeater the mean of three trials is one value."""
    search = searcher()
    repeater = Repeater(search, repeat=3)
    values = iter([0.0, 0.3, 0.6] * 2)
    configs = []
    for number in range(6):
        configs.append(repeater.suggest(f"t{number}"))
        complete(repeater, f"t{number}", next(values))
    assert configs[0]["x"] == configs[2]["x"] != configs[3]["x"] == configs[5]["x"]
    assert [t.value for t in search._ledger.task("", search._space.space, "min", {}).trials] == (
        pytest.approx([-0.3, -0.3])
    )


@pytest.mark.parametrize("batch", [False, True])
def test_failed_trials_free_their_slots(batch):
    """ray-project/ray#15880: ConcurrencyLimiter, with batches or without, does not block."""
    limiter = ConcurrencyLimiter(searcher(), max_concurrent=2, batch=batch)
    for generation in range(3):
        ids = [f"{generation}-{number}" for number in range(2)]
        assert all(limiter.suggest(trial_id) for trial_id in ids)
        assert limiter.suggest("one too many") is None
        limiter.on_trial_complete(ids[0], error=True)
        complete(limiter, ids[1], 1.0)


# ---- saving --------------------------------------------------------------------------------


def test_an_interrupted_sweep_goes_on_with_the_searcher(tmp_path):
    """ray-project/ray#30861: the rest of the trials is what it would have been."""
    whole = run(searcher(), 6)
    first = searcher()
    begun = run(first, 3)
    SearchGenerator(first).save_to_dir(str(tmp_path), "session")
    second = MetaSearch()
    SearchGenerator(second).restore_from_dir(str(tmp_path))
    assert begun + run(second, 3, first=3) == whole


def test_a_restored_sweep_keeps_the_constants_of_its_space(tmp_path):
    """ray-project/ray#8783, mended: constants stay in the configurations."""
    space = {**SPACE, "const": 3, "model": {"kind": "net", "p": tune.uniform(0, 1)}}
    first = MetaSearch(space, "loss", "min", seed=0)
    run(first, 2)
    first.save(str(tmp_path / "state"))
    second = MetaSearch()
    second.restore(str(tmp_path / "state"))
    (config,) = run(second, 1, first=2)
    assert config["const"] == 3
    assert config["model"]["kind"] == "net"


# ---- with Ray's controller -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("local_ray")
def test_all_samples_run_with_a_nested_metric_a_scheduler_and_failing_trials(tmp_path):
    """ray-project/ray#13234: six samples under ASHA are six trials, one of them an error."""
    points = [{"x": 0.95, "y": 0.5}]  # That one fails.
    search = MetaSearch(seed=0, points_to_evaluate=points)
    tuner = tune.Tuner(
        report_nested,
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=ASHAScheduler(max_t=4, grace_period=1, reduction_factor=2),
            metric="eval/loss",
            mode="min",
            num_samples=6,
            max_concurrent_trials=3,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
    )
    results = tuner.fit()
    assert len(results) == 6
    assert results.num_errors == 1
    assert len(search._ledger) == 6
    assert not any(search._ledger.running)


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("local_ray")
def test_errored_trials_are_restarted_when_the_experiment_is_restored(tmp_path):
    """ray-project/ray#18271: the failed trial is started again, and no other is made."""
    config = tune.TuneConfig(
        search_alg=MetaSearch(seed=0, points_to_evaluate=[{"x": 0.95, "y": 0.5}]),
        metric="eval/loss", mode="min", num_samples=4, max_concurrent_trials=2, reuse_actors=True,
    )  # fmt: skip
    run_config = tune.RunConfig(storage_path=str(tmp_path), name="run", verbose=0)
    tuner = tune.Tuner(report_nested, param_space=SPACE, tune_config=config, run_config=run_config)
    assert tuner.fit().num_errors == 1
    restored = tune.Tuner.restore(str(tmp_path / "run"), report_nested, restart_errored=True)
    results = restored.fit()
    assert len(results) == 4
    assert len({result.config["x"] for result in results}) == 4
