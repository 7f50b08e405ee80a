"""Values fixed by ``enqueue_trial`` or ``PartialFixedSampler``: the rest is decided for them."""

import warnings

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo import Space, Task, Trial
from optuna_meta import MetaSampler, explain
from optuna_meta.fixed_params import fixed_in
from optuna_meta.running_study import requested_distributions
from optuna_meta.sampler import _deciding_before
from optuna_meta.trial_attributes import decided_configuration

SPACE = Space(
    {
        "lr": FloatDistribution(1e-5, 1, log=True),
        "layers": IntDistribution(1, 4),
        "optimizer": CategoricalDistribution(["sgd", "adam", None]),
    }
)


def interaction(trial) -> float:
    """0.64 at best where mom is 0.9, at x = 0.8; the best of all is 0, at mom = 0.1, x = 0.2."""
    mom, x = trial.suggest_float("mom", 0, 1), trial.suggest_float("x", 0, 1)
    return (x - (0.2 + 0.75 * (mom - 0.1))) ** 2 + (mom - 0.1) ** 2


def fixing(fixed, sampler):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.PartialFixedSampler(fixed, sampler)


@pytest.mark.parametrize("how", ["enqueued", "by a sampler"])
def test_the_others_are_optimised_given_the_fixed_values(how):
    """After 20 such trials TPE is 0.2 above the best with enqueued values (two seeds)."""
    study = optuna.create_study(sampler=MetaSampler(seed=0))
    study.optimize(interaction, n_trials=8)
    if how == "enqueued":
        for _ in range(8):
            study.enqueue_trial({"mom": 0.9})
    else:
        study.sampler = fixing({"mom": 0.9}, study.sampler)
    study.optimize(interaction, n_trials=8)
    later = study.trials[8:]
    assert {trial.params["mom"] for trial in later} == {0.9}
    assert min(trial.value for trial in later) == pytest.approx(0.64, abs=1e-3)
    assert "Given beforehand: mom." in explain(later[-1])


@pytest.mark.parametrize("how", ["enqueued", "by a sampler"])
def test_the_first_trial_is_recommended_given_the_fixed_values(how):
    """Where the history names the hyperparameter otherwise, too: it is eta there."""
    past_space = Space({"eta": FloatDistribution(0, 1), "x": FloatDistribution(0, 1)})
    grid = [i / 7 for i in range(8)]
    trials = tuple(Trial({"eta": e, "x": x}, -e - (e - x) ** 2) for e in grid for x in grid)
    sampler = MetaSampler(history=Task("past", past_space, trials), seed=0)

    def objective(trial):
        return trial.suggest_float("lr", 0, 1) + trial.suggest_float("x", 0, 1)

    study = optuna.create_study(sampler=sampler)
    if how == "enqueued":
        study.enqueue_trial({"lr": 0.9})
    else:
        study.sampler = fixing({"lr": 0.9}, sampler)
    study.optimize(objective, n_trials=1)
    assert study.trials[0].params["lr"] == 0.9
    assert study.trials[0].params["x"] == pytest.approx(0.9, abs=0.15)


def test_what_a_fixed_parent_rules_out_is_not_decided():
    def objective(trial):
        lr = trial.suggest_float("lr", 0, 1)
        if trial.suggest_categorical("optimizer", ["adam", "sgd"]) == "sgd":
            return lr + trial.suggest_float("momentum", 0, 1)
        return lr

    study = optuna.create_study(sampler=MetaSampler(seed=0))
    for optimizer in ("adam", "sgd", "adam", "sgd"):
        study.enqueue_trial({"optimizer": optimizer, "lr": 0.5})
    study.enqueue_trial({"optimizer": "adam"})
    study.enqueue_trial({"optimizer": "adam", "momentum": 0.5})
    study.enqueue_trial({"optimizer": "sgd", "momentum": 0.5})
    study.optimize(objective, n_trials=7)
    assert [trial.params["optimizer"] for trial in study.trials[4:]] == ["adam", "adam", "sgd"]
    decided = [t.system_attrs["metahpo:configuration"].keys() for t in study.trials[4:]]
    assert decided == [{"lr", "optimizer"}] * 2 + [{"lr", "optimizer", "momentum"}]


@pytest.mark.parametrize("value", [7.5, -3.0])
def test_a_value_outside_the_range_is_run_and_the_rest_is_decided_for_it(value):
    study = optuna.create_study(sampler=MetaSampler(seed=0))
    study.optimize(interaction, n_trials=5)
    for _ in range(2):
        study.enqueue_trial({"mom": value})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna's, of the range
        study.optimize(interaction, n_trials=2)
    assert [trial.params["mom"] for trial in study.trials[5:]] == [value] * 2
    assert len({trial.params["x"] for trial in study.trials[5:]}) == 2


def test_fixed_values_take_the_form_that_distributions_give_out():
    fixed = {"learning_rate": 1, "layers": 2.0, "optimizer": "lion", "unknown": object()}
    assert fixed_in(SPACE, fixed) == {"lr": 1.0, "layers": 2}
    assert type(fixed_in(SPACE, fixed)["layers"]) is int
    assert fixed_in(SPACE, {"lr": "fast", "optimizer": None, "layers": 9}) == {
        "optimizer": None,
        "layers": 9,
    }
    # Of two names for one hyperparameter the space's own counts.
    assert fixed_in(SPACE, {"learning_rate": 0.5, "lr": 0.25}) == {"lr": 0.25}


@pytest.mark.parametrize("value", ["lion", object(), float("nan")])
def test_a_value_of_no_use_costs_its_own_trial_alone(value):
    def objective(trial):
        trial.suggest_float("x", 0, 1)
        return float(trial.suggest_int("n", 0, 9))

    study = optuna.create_study(sampler=MetaSampler(seed=0))
    study.optimize(objective, n_trials=5)
    study.enqueue_trial({"n": value})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.optimize(objective, n_trials=2, catch=Exception)
    assert [t.state for t in study.trials[5:]] == [
        optuna.trial.TrialState.FAIL,
        optuna.trial.TrialState.COMPLETE,
    ]


# ---- workers that decide at the same time --------------------------------------------------


def started(study):
    """A trial that runs, the next of the queue if there is one, before anything is decided."""
    waiting = study._pop_waiting_trial_id()
    number = study._storage.create_new_trial(study._study_id) if waiting is None else waiting
    return study._storage.get_trial(number)


def positions(study, count: int = 2) -> list[int]:
    """Which of a batch each of the trials runs that start before any has decided."""
    running = [started(study) for _ in range(count)]
    names = requested_distributions(study.trials)
    return [_deciding_before(trial, study.trials, names) for trial in running]


def test_trials_with_partly_enqueued_values_that_start_together_differ():
    study = optuna.create_study(sampler=MetaSampler(seed=0))
    for _ in range(2):
        study.enqueue_trial({"mom": 0.9})
    assert positions(study) == [0, 1]
    study = optuna.create_study(sampler=MetaSampler(seed=0))
    study.optimize(interaction, n_trials=1)
    for _ in range(2):
        study.enqueue_trial({"mom": 0.9})
    assert positions(study) == [0, 1]


def test_of_a_trial_that_is_enqueued_as_a_whole_nothing_is_to_decide():
    study = optuna.create_study(sampler=MetaSampler(seed=0))
    study.optimize(interaction, n_trials=1)
    study.enqueue_trial({"mom": 0.9, "x": 0.5})
    assert positions(study) == [0, 0]


def test_workers_that_decide_at_the_same_time_for_the_same_fixed_value_try_others():
    grid = [i / 7 for i in range(8)]
    space = Space({"mom": FloatDistribution(0, 1), "x": FloatDistribution(0, 1)})
    trials = tuple(Trial({"mom": m, "x": x}, -((x - m) ** 2)) for m in grid for x in grid)
    sampler = MetaSampler(history=Task("past", space, trials), seed=0)
    study = optuna.create_study(sampler=sampler)
    for _ in range(2):
        study.enqueue_trial({"mom": 0.9})
    one, other = started(study), started(study)
    # The second decides first: neither sees what the other decides.
    for trial in (other, one):
        sampler.sample_relative(study, trial, {})
    decided = [study._storage.get_trial(t._trial_id) for t in (one, other)]
    assert len({decided_configuration(trial)["x"] for trial in decided}) == 2
