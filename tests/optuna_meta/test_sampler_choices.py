"""Studies with any objects as choices: whatever Optuna's own samplers take."""

import math
import warnings

import numpy as np
import optuna
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from support.nasty_choices import Layer, choices, relu

from metahpo import Space, Task, Trial
from metahpo.settings import PolicySettings, PortfolioSettings
from metahpo.tasks.choices import choice_key
from optuna_meta import MetaSampler, explain

# Each example is a study or two: too slow to shrink.
STUDIES = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.generate],
}
# Trees are most of the work.
QUICK = PolicySettings(portfolio=PortfolioSettings(trees=10))


def are_known_to_optuna(values) -> bool:
    """Whether Optuna itself can look each up: NumPy raises where it compares some with lists."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            distribution = CategoricalDistribution(values)
            return all(distribution.to_internal_repr(value) >= 0 for value in values)
        except ValueError:
            return False


several = st.lists(choices, min_size=2, max_size=5).filter(are_known_to_optuna)


def objective_of(values):
    """The place of a choice decides the value, and one choice brings a second hyperparameter."""

    def objective(trial) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what not every storage can hold
            chosen = trial.suggest_categorical("c", values)
        place = list(map(choice_key, values)).index(choice_key(chosen))
        x = trial.suggest_float("x", 0, 1) if place == 0 else 0.5
        return place + x

    return objective


def study_of(values, sampler, trials: int) -> optuna.Study:
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective_of(values), n_trials=trials)
    return study


def check_study(values, past_values, seed: int) -> None:
    past = study_of(past_values, optuna.samplers.RandomSampler(seed=seed), 8)
    sampler = MetaSampler(history=[past], seed=seed, surrogate="gp", settings=QUICK)
    study = study_of(values, sampler, 4)
    assert all(trial.state.is_finished() for trial in study.trials)
    # Copies of objects that have no ``==`` of their own are other objects.
    for trial in study.get_trials(deepcopy=False):
        assert choice_key(trial.params["c"]) in set(map(choice_key, values))
        assert "fallback" not in explain(trial)


@given(several, several, st.integers(0, 99))
@settings(max_examples=3, **STUDIES)
def test_any_choices_in_a_study_and_in_its_history(values, past_values, seed):
    check_study(values, past_values, seed)


@given(several, st.integers(0, 99))
@settings(max_examples=2, **STUDIES)
def test_any_choices_in_a_study_and_the_same_in_its_history(values, seed):
    check_study(values, values, seed)


@pytest.mark.slow
@pytest.mark.timeout(900)
@given(several, several, st.integers(0, 99))
@settings(max_examples=60, **STUDIES)
def test_any_choices_for_long(values, past_values, seed):
    check_study(values, past_values, seed)
    check_study(values, values, seed)


@pytest.mark.parametrize(
    "values",
    [[(1, [2]), (3, [4])], [relu, math.sin, abs], [np.int64(1), np.int64(8)], [Layer(1), Layer(2)],
     [float("nan"), 1.0], [[1], [2]], [{"a": 1}, {"a": 2}]],
)  # fmt: skip
def test_the_history_of_a_choice_is_followed(values):
    """The past tells that the last choice is best; the first trial takes it."""
    past = study_of(values[::-1], optuna.samplers.RandomSampler(seed=0), 20)
    study = study_of(values[::-1], MetaSampler(history=[past], seed=0, settings=QUICK), 1)
    assert choice_key(study.trials[0].params["c"]) == choice_key(values[-1])


def test_a_history_of_objects_does_not_hinder_a_study_in_a_database(tmp_path):
    """The objects cannot be written there; the study has other choices of the same name."""
    past = study_of([relu, math.sin, {1}], optuna.samplers.RandomSampler(seed=0), 10)
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(
        storage=storage, sampler=MetaSampler(history=[past], seed=0, settings=QUICK)
    )
    study.optimize(objective_of(["relu", "sin", "set"]), n_trials=6)
    assert len(study.trials) == 6
    assert all(explain(trial) for trial in study.trials)


@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution:UserWarning")
def test_numpy_choices_of_a_history_are_followed_in_a_database(tmp_path):
    space = Space({"x": CategoricalDistribution([np.int64(16), np.int64(32), np.int64(64)])})
    values = space.distributions["x"].choices
    past = Task("past", space, tuple(Trial({"x": c}, -abs(float(c) - 32)) for c in values))
    for seed in range(4):
        study = optuna.create_study(
            storage=f"sqlite:///{tmp_path}/{seed}.db",
            sampler=MetaSampler(history=past, seed=seed, settings=QUICK),
        )
        study.optimize(lambda t: abs(t.suggest_categorical("x", [16, 32, 64]) - 32), n_trials=1)
        assert study.trials[0].params == {"x": 32}


def test_what_is_hopeless_of_objects_is_recorded_as_text():
    study = study_of([relu, *range(5)], MetaSampler(seed=0), 1)
    assert explain(study.trials[0])
