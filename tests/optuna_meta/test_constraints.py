"""Constraints in Optuna's studies: read alike from every storage, and followed by the sampler."""

import json
import math
import pickle
import sqlite3
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study._constrained_optimization import _get_constraints_from_system_attrs
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from metahpo import Archive, Task
from metahpo.suggest.decision import Source
from optuna_meta import MetaSampler, explain, recorded_decision
from optuna_meta.constraints import violation_in
from optuna_meta.storage import read_tasks
from optuna_meta.study_task import study_task

X = {"x": FloatDistribution(0, 1)}


def fill(study: optuna.Study) -> None:
    """Trials with constraints of both forms, in every state."""
    for constraints in ({}, {"a": -1.0}, {"a": 1.0, "b": 0.5}, {"a": -3.0, "b": math.inf}):
        trial = study.ask(X)
        for name, value in constraints.items():
            trial.set_constraint(name, value)
        study.tell(trial, 1.0)
    for listed in ([0.0, -1.0], [2.0, 1.0, -1.0], None):
        study.add_trial(
            create_trial(
                value=2.0,
                params={"x": 0.5},
                distributions=X,
                system_attrs={"constraints": listed},
            )
        )
    for state in (OptunaState.PRUNED, OptunaState.FAIL):
        trial = study.ask(X)
        trial.report(3.0, 1)
        trial.set_constraint("a", 4.0)
        study.tell(trial, state=state)
    study.ask(X).set_constraint("a", 5.0)


VIOLATIONS = [0.0, 0.0, 1.5, math.inf, 0.0, 3.0, 0.0, 4.0, 4.0, 5.0]


@pytest.fixture(params=["memory", "database", "journal"])
def storage(request, tmp_path: Path) -> BaseStorage:
    match request.param:
        case "memory":
            return InMemoryStorage()
        case "database":
            return RDBStorage(f"sqlite:///{tmp_path / 'hpo.db'}")
    return JournalStorage(JournalFileBackend(str(tmp_path / "hpo.log")))


def violations(task: Task) -> list[float]:
    return [trial.violation for trial in task.trials]


def test_every_storage_gives_the_same_violations(storage, tmp_path):
    study = optuna.create_study(storage=storage, study_name="constrained")
    fill(study)
    (task,) = read_tasks(study)
    assert violations(task) == violations(study_task(study)) == VIOLATIONS
    assert [violations(t) for t in read_tasks(storage)] == [VIOLATIONS]
    archive = Archive(tmp_path / "archive")
    archive.add(task)
    (archived,) = archive.tasks()
    assert archived.trials == task.trials


def test_the_best_trial_is_the_one_that_optuna_calls_best(storage):
    study = optuna.create_study(storage=storage, study_name="constrained", direction="maximize")
    fill(study)
    (task,) = read_tasks(study)
    assert task.best is not None
    assert task.best.value == study.best_value == 2.0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(["constraints", "constraints:a", "constraints:0", "constraints:", "other"])


@given(st.dictionaries(KEYS, JSON))
@settings(max_examples=100, deadline=None)
def test_whatever_is_stored_as_constraints_is_a_violation(attributes):
    assert violation_in(attributes) >= 0.0


NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(NUMBERS, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "7"]), NUMBERS))
@settings(max_examples=100, deadline=None)
def test_a_violation_is_the_one_that_optunas_samplers_count(listed, named):
    attributes = {"constraints": listed, **{f"constraints:{n}": v for n, v in named.items()}}
    found = _get_constraints_from_system_attrs(attributes).values()
    assert violation_in(attributes) == sum(v for v in found if v > 0)


@pytest.mark.parametrize("text", ["", "{", "nan", "[[[]]]", '"soon"', "[null]", "[" * 100_000])
def test_constraints_in_a_database_that_cannot_be_read_are_violated(text, tmp_path):
    path = tmp_path / "hpo.db"
    study = optuna.create_study(storage=f"sqlite:///{path}")
    for value in (1.0, 2.0):
        trial = study.ask(X)
        trial.set_constraint("a", -1.0)
        study.tell(trial, value)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            "UPDATE trial_system_attributes SET value_json = ? WHERE trial_id = 1", [text]
        )
    connection.close()
    (task,) = read_tasks(f"sqlite:///{path}")
    assert violations(task) == [math.inf, 0.0]


def test_a_database_gives_nothing_but_the_constraints_of_its_trials(tmp_path):
    path = tmp_path / "hpo.db"
    study = optuna.create_study(storage=f"sqlite:///{path}", study_name="s")
    trial = study.ask(X)
    for key in ("constraint", "Constraints", "constraintsx", "constraints-a"):
        study._storage.set_trial_system_attr(trial._trial_id, key, [1.0])
    study.tell(trial, 1.0)
    (task,) = read_tasks(f"sqlite:///{path}")
    assert violations(task) == [0.0]


# ---- constraints_func ----------------------------------------------------------------------


def above_half(trial) -> tuple[float]:
    return (trial.params["x"] - 0.5,)


def test_constraints_func_is_deprecated_as_in_optunas_samplers():
    for sampler in (TPESampler, MetaSampler):
        with pytest.warns(FutureWarning, match=r"`constraints_func` .*set_constraint") as warned:
            sampler(constraints_func=above_half)
    # Ours names the line that made the sampler.
    assert warned[0].filename == __file__


@pytest.mark.filterwarnings("ignore:`constraints_func`:FutureWarning")
def test_constraints_func_is_stored_with_each_trial_and_pickled_with_the_sampler():
    sampler = pickle.loads(pickle.dumps(MetaSampler(constraints_func=above_half, seed=0)))
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: -trial.suggest_float("x", 0, 1), n_trials=3)
    assert [t.constraints["0"] for t in study.trials] == [
        t.params["x"] - 0.5 for t in study.trials
    ]
    assert [t.violation > 0 for t in study_task(study).trials] == [
        t.params["x"] > 0.5 for t in study.trials
    ]


@pytest.mark.filterwarnings("ignore:`constraints_func`:FutureWarning")
def test_a_constraint_that_is_nan_is_an_error_as_in_optunas_samplers():
    sampler = MetaSampler(constraints_func=lambda trial: (math.nan,), seed=0)
    study = optuna.create_study(sampler=sampler)
    with pytest.raises(ValueError, match="cannot be NaN"):
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)


# ---- studies -------------------------------------------------------------------------------


def disk(trial, radius: float = 0.6) -> float:
    """Best in the corner, where the constraint is violated most; 28% of the square is feasible."""
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    trial.set_constraint("radius", x**2 + y**2 - radius**2)
    return -x - y


def feasible(study: optuna.Study) -> list[bool]:
    return [trial.feasible for trial in study_task(study).trials]


def random_studies(count: int) -> BaseStorage:
    storage = InMemoryStorage()
    for number in range(count):
        study = optuna.create_study(
            storage=storage, sampler=RandomSampler(seed=number), study_name=f"past-{number}"
        )
        study.optimize(lambda trial, r=0.5 + 0.05 * number: disk(trial, r), n_trials=30)
    return storage


def test_a_constrained_history_does_not_lead_to_the_infeasible_corner():
    storage = random_studies(4)
    study = optuna.create_study(storage=storage, sampler=MetaSampler(seed=0), study_name="new")
    study.optimize(disk, n_trials=4)
    assert sum(feasible(study)) >= 3
    assert study.best_value < -0.6


def test_a_study_stays_feasible_more_often_than_by_chance_and_says_so():
    # Seeded, so that it always ends the same way. By chance 7 or more of 10 are feasible in 0.7%
    # of studies; a search that ignores the constraint goes to the corner, and none is.
    study = optuna.create_study(sampler=MetaSampler(history=[], surrogate="gp", seed=0))
    study.optimize(disk, n_trials=14)
    assert sum(feasible(study)[4:]) >= 7
    assert study.best_value < -0.7
    assert "over the best feasible trial so far" in explain(study.trials[-1])


def test_a_study_without_a_feasible_trial_moves_towards_feasible_ones():
    def far(trial) -> float:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_constraint("c", 1.0 + x + 0.1 * y)
        return -10.0 * x

    study = optuna.create_study(sampler=MetaSampler(history=[], surrogate="gp", seed=0))
    study.optimize(far, n_trials=9)
    assert min(t.params["x"] for t in study.trials[-4:]) < 0.05
    decision = recorded_decision(study.trials[-1])
    assert decision is not None
    assert decision.source is Source.ACQUISITION
    assert "No trial has met the constraints yet" in decision.reason
    assert decision.mean is None
    assert decision.deviation is None
    json.dumps(decision.to_json())
