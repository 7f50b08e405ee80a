"""Constraints in Ray: named by the user, followed in the sweep, saved, and read from folders."""

import json
import logging
import math

import numpy as np
import pytest
from support.ray_folders import params, write_trial

pytest.importorskip("ray.tune", reason="Ray is not installed: pip install 'metahpo[ray]'")

from ray import cloudpickle, tune

from metahpo import cli
from metahpo.archive import Archive, ReadOptions, SourceWarning
from metahpo.tasks.task import Task
from raytune_meta import MetaSearch, read_experiment
from raytune_meta.experiment import RayReader

SPACE = {"x": tune.uniform(0, 1), "y": tune.uniform(0, 1)}
CONSTRAINT = "size/excess"


def searcher(**arguments) -> MetaSearch:
    return MetaSearch(
        SPACE, "loss", "min", **{"seed": 0, "constraints": [CONSTRAINT], **arguments}
    )


def disk(config, radius: float = 0.6) -> dict:
    """Best in the corner, where the constraint is violated most."""
    x, y = config["x"], config["y"]
    return {"loss": -x - y, CONSTRAINT: x**2 + y**2 - radius**2, "training_iteration": 1}


def run(search: MetaSearch, count: int, results=disk) -> list[dict]:
    configs = []
    for number in range(count):
        configs.append(search.suggest(f"t{number}"))
        search.on_trial_complete(f"t{number}", results(configs[-1]))
    return configs


def sweep(search: MetaSearch) -> Task:
    return search._task_and_history()[0]


def violations(search: MetaSearch) -> list[float]:
    return [trial.violation for trial in sweep(search).trials]


def reporting(search: MetaSearch, *results: dict) -> list[float]:
    """Violations after one trial that reported these."""
    search.suggest("a")
    for iteration, result in enumerate(results, start=1):
        search.on_trial_result("a", {"loss": 1.0, "training_iteration": iteration, **result})
    search.on_trial_complete("a")
    return violations(search)


# ---- arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize("constraints", ["size", {"size": 1}, [1], 3, {"size"}, [None]])
def test_constraints_must_be_a_list_of_names(constraints):
    with pytest.raises(TypeError, match="constraints must be a list of names of results"):
        MetaSearch(constraints=constraints)


@pytest.mark.parametrize("constraints", [[""], ["size", "size"]])
def test_names_of_constraints_are_distinct_and_not_empty(constraints):
    with pytest.raises(ValueError, match="distinct names, none of them empty"):
        MetaSearch(constraints=constraints)


# ---- reports -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reported", "violation"),
    [
        (-1.0, 0.0),
        (0.0, 0.0),
        (2.5, 2.5),
        (np.float32(0.5), 0.5),
        (True, 1.0),
        (np.bool_(False), 0.0),
        (math.nan, math.inf),
        (math.inf, math.inf),
        ("large", math.inf),
        ([], math.inf),
        (10**400, math.inf),
        (None, 0.0),
    ],
)
def test_a_report_becomes_a_violation(reported, violation):
    assert reporting(searcher(), {CONSTRAINT: reported}) == [violation]


def test_the_last_report_of_each_constraint_counts_and_they_add_up():
    search = searcher(constraints=["a", "b", "c"])
    reports = ({"a": 5.0, "b": 1.0}, {"a": 2.0, "c": -4.0}, {"other": 7.0})
    assert reporting(search, *reports) == [3.0]


def test_a_constraint_may_be_reported_without_the_metric():
    search = searcher()
    search.suggest("a")
    search.on_trial_result("a", {CONSTRAINT: 3.0, "training_iteration": 1})
    search.on_trial_complete("a", {"loss": 1.0, "training_iteration": 2})
    assert violations(search) == [3.0]


def test_a_trial_that_has_ended_keeps_its_constraints():
    search = searcher()
    assert reporting(search, {CONSTRAINT: 3.0}) == [3.0]
    search.on_trial_result("a", {"loss": 1.0, CONSTRAINT: -3.0, "training_iteration": 9})
    assert violations(search) == [3.0]


def test_evaluated_points_may_have_constraints():
    search = searcher()
    search.add_evaluated_point({"x": 0.5, "y": 0.5}, 1.0, constraints={CONSTRAINT: 2.0})
    search.add_evaluated_point({"x": 0.1, "y": 0.5}, 1.0)
    assert violations(search) == [2.0, 0.0]


def test_a_constraint_that_no_trial_reports_is_named_once(caplog):
    search = searcher(constraints=["known", "misspelt"])
    with caplog.at_level(logging.WARNING):
        run(search, 3, lambda config: {"loss": 1.0, "known": -1.0})
    (record,) = caplog.records
    assert "'misspelt'" in record.message
    assert "'known'" not in record.message
    assert violations(search) == [0.0] * 3


def test_results_without_named_constraints_are_left_alone(caplog):
    search = searcher(constraints=None)
    with caplog.at_level(logging.WARNING):
        run(search, 2)
    assert not caplog.records
    assert violations(search) == [0.0] * 2


# ---- the search, saved and restored --------------------------------------------------------


def test_a_sweep_stays_feasible_more_often_than_by_chance():
    # Seeded; by chance 6 or more of 8 are feasible in 1% of sweeps (28% of the square is).
    search = searcher(surrogate="gp")
    run(search, 12)
    assert sum(violation == 0.0 for violation in violations(search)[4:]) >= 6
    assert "best feasible trial" in search.explain("t11")


def test_a_sweep_goes_on_after_a_restore_as_if_it_had_not_stopped(tmp_path):
    whole = run(searcher(surrogate="gp"), 6)
    first = searcher(surrogate="gp")
    run(first, 4)
    first.save(str(tmp_path / "state"))
    second = MetaSearch(surrogate="gp")
    second.restore(str(tmp_path / "state"))
    assert violations(second) == violations(first)
    for number in (4, 5):
        config = second.suggest(f"t{number}")
        assert config == pytest.approx(whole[number])
        second.on_trial_complete(f"t{number}", disk(config))


def test_constraints_given_again_win_over_saved_ones(tmp_path):
    search = searcher()
    search.save(str(tmp_path / "state"))
    again = searcher(constraints=["other"])
    again.restore(str(tmp_path / "state"))
    assert reporting(again, {CONSTRAINT: 1.0, "other": 2.0}) == [2.0]


def test_a_state_saved_before_there_were_constraints_is_restored(tmp_path):
    path = tmp_path / "state"
    search = searcher(constraints=None)
    run(search, 2)
    search.save(str(path))
    state = json.loads(path.read_text())
    del state["constraints"]
    for trial in state["ledger"]["trials"]:
        del trial["constraints"]
    path.write_text(json.dumps(state))
    again = searcher(constraints=None)
    again.restore(str(path))
    assert sweep(again).trials == sweep(search).trials


def test_what_was_reported_travels_with_the_pickled_searcher():
    search = searcher()
    run(search, 3)
    again = cloudpickle.loads(cloudpickle.dumps(search))
    assert sweep(again).trials == sweep(search).trials


# ---- folders -------------------------------------------------------------------------------


@pytest.fixture
def experiment(tmp_path):
    """Better values in trials that violate the constraint more."""
    folder = tmp_path / "runs" / "train"
    for number in range(1, 5):
        more = [{"size": {"excess": 9.0}}, {"size": {"excess": number - 2.0}}]
        write_trial(folder, number, params(number), [0.1 * number, 0.2 * number], more=more)
    return folder


def test_constraints_are_read_from_folders(experiment):
    task = read_experiment(experiment, "eval/acc", "max", [CONSTRAINT])
    assert [trial.violation for trial in task.trials] == [0.0, 0.0, 1.0, 2.0]
    assert task.best is task.trials[1]
    options = ReadOptions("eval/acc", "max", (CONSTRAINT,))
    for path in (experiment, experiment.parent):
        assert RayReader().read(str(path), options) == [task]


def test_without_names_results_are_no_constraints(experiment):
    task = read_experiment(experiment, "eval/acc", "max")
    assert [trial.violation for trial in task.trials] == [0.0] * 4


def test_a_constraint_that_no_trial_of_an_experiment_reported_is_named(experiment):
    with pytest.warns(SourceWarning, match="no trial reported 'misspelt'"):
        task = read_experiment(experiment, "eval/acc", "max", ["misspelt", CONSTRAINT])
    assert [trial.violation for trial in task.trials] == [0.0, 0.0, 1.0, 2.0]


def test_collecting_keeps_the_constraints(experiment, tmp_path):
    archive = tmp_path / "archive"
    command = ["collect", str(experiment), "--to", str(archive)]
    options = ["--metric", "eval/acc", "--mode", "max", "--constraint", CONSTRAINT]
    assert cli.main([*command, *options]) == 0
    (task,) = Archive(archive).tasks()
    assert [trial.violation for trial in task.trials] == [0.0, 0.0, 1.0, 2.0]


def test_the_history_of_a_sweep_has_its_constraints(experiment):
    search = MetaSearch(
        {"model": {"lr": tune.loguniform(1e-5, 1), "layers": tune.randint(1, 9)}},
        "eval/acc",
        "max",
        constraints=[CONSTRAINT],
        history=str(experiment),
        seed=0,
    )
    (past,) = search._task_and_history()[1]
    assert [trial.violation for trial in past.trials] == [0.0, 0.0, 1.0, 2.0]
