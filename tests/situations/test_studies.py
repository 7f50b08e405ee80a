"""Studies as users of Optuna report them; each docstring names the public report."""

import contextlib
import copy
import functools
import pickle
import warnings
from collections import Counter

import numpy as np
import optuna
import pytest
import sqlalchemy as sa
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import PartialFixedSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState, create_trial

from metahpo.suggest.decision import Source
from optuna_meta import MetaSampler, recorded_decision

UNIT = FloatDistribution(0, 1)
SQUARE = {"x": UNIT, "y": UNIT}
# Names that the pretrained network knows.
BOOSTING = {
    "learning_rate": FloatDistribution(1e-4, 1, log=True),
    "max_depth": IntDistribution(1, 12),
}


def study_of(sampler=None, **arguments) -> optuna.Study:
    return optuna.create_study(sampler=sampler or MetaSampler(seed=0), **arguments)


def bowl_at(params) -> float:
    """Minimum at (0.3, 0.7)."""
    return (params["x"] - 0.3) ** 2 + (params["y"] - 0.7) ** 2


def bowl(trial: optuna.Trial) -> float:
    return bowl_at({name: trial.suggest_float(name, 0, 1) for name in SQUARE})


def boosting_at(params) -> float:
    return (np.log10(params["learning_rate"]) + 1) ** 2 + (params["max_depth"] - 5) ** 2 / 10


def optimize(study: optuna.Study, objective, n_trials: int | None = None, **arguments) -> None:
    study.optimize(objective, n_trials=n_trials, **arguments)
    assert_no_fallback(study)


def assert_no_fallback(study: optuna.Study) -> None:
    """Check that no suggestion was drawn at random because a model had failed."""
    decisions = map(recorded_decision, study.trials)
    assert all(
        decision is None or decision.source is not Source.FALLBACK for decision in decisions
    )


def with_random_trials(study: optuna.Study, distributions, value, count: int = 12) -> optuna.Study:
    """Add finished trials of random configurations."""
    source = optuna.create_study(sampler=RandomSampler(seed=1))
    for _ in range(count):
        params = source.ask(distributions).params
        study.add_trial(
            create_trial(params=params, distributions=distributions, value=value(params))
        )
    return study


def distinct(study: optuna.Study, *, since: int = 0) -> int:
    return len({tuple(sorted(map(repr, t.params.items()))) for t in study.trials[since:]})


def states(study: optuna.Study) -> Counter:
    return Counter(trial.state for trial in study.trials)


# ---- values that the user fixes ------------------------------------------------------------


def test_values_enqueued_for_some_parameters_decide_what_is_best_for_the_others():
    """optuna/optuna#2325, mended: the free parameter is optimised given the fixed one."""
    distributions = {"x": UNIT, "m": UNIT}
    study = with_random_trials(study_of(), distributions, lambda p: (p["x"] - p["m"]) ** 2, 25)
    fixed = [0.1, 0.5, 0.9]
    for m in fixed:
        study.enqueue_trial({"m": m})
    found = []
    for _ in fixed:
        trial = study.ask(distributions)
        found.append(abs(trial.params["x"] - trial.params["m"]))
        study.tell(trial, found[-1] ** 2)
    assert max(found) < 0.25


def test_partially_fixed_parameters_beside_a_conditional_space_do_not_end_the_study():
    """optuna/optuna#6427: every trial has the fixed value, and none raises."""

    def objective(trial):
        kind = trial.suggest_categorical("kind", ["a", "b"])
        x, z = trial.suggest_float("x", 0, 1), trial.suggest_float(f"of_{kind}", 0, 1)
        return (x - z) ** 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = PartialFixedSampler({"x": 0.5}, MetaSampler(seed=0))
    study = study_of(sampler)
    optimize(study, objective, n_trials=6)
    assert {trial.params["x"] for trial in study.trials} == {0.5}
    assert {trial.params["kind"] for trial in study.trials} == {"a", "b"}


def test_an_enqueued_configuration_is_run_once_and_learned_from():
    """optuna/optuna#3573: a warm start does not repeat the enqueued trial."""
    study = study_of()
    study.enqueue_trial({"x": 0.3, "y": 0.7})
    optimize(study, bowl, n_trials=6)
    assert study.trials[0].params == {"x": 0.3, "y": 0.7}
    assert distinct(study) == 6


# ---- spaces that change --------------------------------------------------------------------


def test_choices_that_change_within_a_study_fail_that_trial_alone():
    """optuna/optuna#2564: Optuna's own error for the trial that differs; the others go on."""

    def objective(trial):
        names = ["c", "d"] if trial.number == 3 else ["a", "b"]
        return trial.suggest_float("x", 0, 1) + (trial.suggest_categorical("name", names) == "a")

    outcomes = []
    for sampler in (TPESampler(seed=0), MetaSampler(seed=0)):
        study = study_of(sampler)
        optimize(study, objective, n_trials=7, catch=ValueError)
        outcomes.append([trial.state for trial in study.trials])
    assert outcomes[0] == outcomes[1]
    assert outcomes[1].count(TrialState.COMPLETE) == 6


def test_a_range_that_depends_on_another_value_is_kept_to():
    """optuna/optuna#372: each value lies within the bounds of its own trial."""

    def objective(trial):
        top = trial.suggest_float("top_rate", 0.0, 1.0)
        other = trial.suggest_float("other_rate", 0.0, 1.0 - top)
        assert 0.0 <= other <= 1.0 - top
        return (top - 0.6) ** 2 + (other - 0.4) ** 2

    study = study_of()
    optimize(study, objective, n_trials=7)
    assert states(study) == {TrialState.COMPLETE: 7}


def test_one_sampler_serves_consecutive_studies_with_other_choices_under_the_same_name():
    """optuna/optuna#2854: a study is not exposed to the choices of the one before it."""
    sampler = MetaSampler(seed=0)
    for losses in (["mse", "l1", "huber"], ["nll", "margin"]):
        study = study_of(sampler)
        optimize(study, lambda t, c=losses: float(c.index(t.suggest_categorical("loss", c))), 6)
        assert study.best_params == {"loss": losses[0]}


@pytest.mark.slow
def test_a_choice_that_the_history_lacks_is_tried():
    """optuna/optuna#2275: a model that was added to the list is found where it is the best."""
    models = {"linear": 1, "forest": 2, "new": 0}

    def objective(trial, names=(*models,)):
        return models[trial.suggest_categorical("model", names)] + trial.suggest_float("x", 0, 1)

    past = study_of(RandomSampler(seed=0))
    optimize(past, lambda trial: objective(trial, ("linear", "forest")), 12)
    present = study_of(MetaSampler(history=past, seed=0))
    optimize(present, objective, 7)
    assert present.best_params["model"] == "new"


def test_a_parameter_added_in_the_middle_of_a_study_is_optimised():
    """optuna/optuna#4037: it belongs to what is optimised from then on."""

    def objective(trial):
        value = (trial.suggest_float("x", 0, 1) - 0.3) ** 2
        return value + (trial.suggest_float("y", 0, 1) - 0.7) ** 2 if trial.number >= 3 else value

    study = study_of()
    optimize(study, objective, n_trials=9)
    assert min(abs(t.params["y"] - 0.7) for t in study.trials[4:]) < 0.2


def test_a_conditional_space_is_searched_in_its_better_branch():
    """optuna/optuna#6618: every branch is tried, the better one more often."""

    def objective(trial):
        kind = trial.suggest_categorical("c", ["a", "b"])
        return trial.suggest_float("xy"["ab".index(kind)], 0, 1) ** 2 + 2 * (kind == "b")

    study = study_of()
    optimize(study, objective, n_trials=10)
    kinds = Counter(trial.params["c"] for trial in study.trials)
    assert kinds["a"] > kinds["b"] > 0
    assert study.best_value < 0.05


def test_a_configuration_is_not_repeated_where_the_history_lacks_a_failing_parameter():
    """optuna/optuna#2864, mended: what failed is not chosen again."""
    past = with_random_trials(study_of(), SQUARE, bowl_at)
    present = study_of(MetaSampler(history=past, seed=0))

    def objective(trial):
        bowl(trial)
        trial.suggest_int("layers", 1, 4)
        raise MemoryError

    optimize(present, objective, n_trials=8, catch=MemoryError)
    assert distinct(present) == 8


# ---- repetition ----------------------------------------------------------------------------


def test_an_integer_is_not_suggested_twice_while_others_are_left():
    """optuna/optuna#2021: as many different values as trials."""
    study = study_of()
    optimize(study, lambda t: (t.suggest_int("min_data_in_leaf", 1, 10) - 7) ** 2, n_trials=10)
    assert distinct(study) == 10


@pytest.mark.slow
def test_a_small_grid_is_exhausted_before_a_cell_is_repeated():
    """himkt/allennlp-optuna#44, mended: as many different configurations as trials."""

    def objective(trial):
        i, c = trial.suggest_int("i", 0, 7), trial.suggest_categorical("c", list("abcdefgh"))
        return (i - 3) ** 2 + "abcdefgh".index(c)

    study = study_of()
    optimize(study, objective, n_trials=64)
    assert distinct(study) == 64


def test_a_value_is_the_same_however_often_a_trial_asks_for_it():
    """optuna/optuna#717: one value for a name in a trial, as with every sampler."""
    study = study_of()
    for _ in range(4):
        trial = study.ask()
        assert len({trial.suggest_float("x", 0, 1) for _ in range(3)}) == 1
        study.tell(trial, 1.0)


def test_threads_with_a_seed_do_not_try_the_same():
    """optuna/optuna#4412: with n_jobs all trials differ."""
    study = study_of(MetaSampler(seed=42))
    optimize(study, bowl, n_trials=8, n_jobs=4)
    assert distinct(study) == 8


def test_a_resumed_study_with_the_same_seed_does_not_start_over(tmp_path):
    """optuna/optuna#3255: the trials of both runs differ."""
    url = f"sqlite:///{tmp_path / 'hpo.db'}"
    for _ in range(2):
        study = study_of(
            MetaSampler(seed=137), storage=url, study_name="study", load_if_exists=True
        )
        optimize(study, bowl, n_trials=3)
    assert distinct(study) == 6


@pytest.mark.parametrize("finished", [0, 4])
def test_equally_seeded_workers_with_one_trial_each_do_not_try_the_same(finished):
    """optuna/optuna#2826: single trials of parallel workers differ, from the first on."""
    storage = optuna.storages.InMemoryStorage()
    optimize(study_of(storage=storage, study_name="study"), bowl, finished)
    for _ in range(4):
        worker = optuna.load_study(
            study_name="study", storage=storage, sampler=MetaSampler(seed=0)
        )
        bowl(worker.ask())
    assert distinct(worker) == finished + 4


# ---- seeds and copies ----------------------------------------------------------------------


def test_one_sampler_gives_the_same_suggestions_in_each_study_of_a_loop():
    """optuna/optuna#3526: the sampler carries no state from study to study."""
    arguments = {"sampler": MetaSampler(seed=123)}
    studies = [optuna.create_study(**arguments) for _ in range(2)]
    for study in studies:
        optimize(study, bowl, n_trials=5)
    assert [t.params for t in studies[0].trials] == [t.params for t in studies[1].trials]


def test_copied_and_pickled_studies_go_on_like_the_original():
    """optuna/optuna#914: a deep copy (or a pickle) suggests what the original does."""
    study = study_of()
    optimize(study, bowl, n_trials=5)
    others = [copy.deepcopy(study), pickle.loads(pickle.dumps(study))]
    for one in (study, *others):
        optimize(one, bowl, n_trials=1)
    assert all([t.params for t in o.trials] == [t.params for t in study.trials] for o in others)


def test_single_calls_of_optimize_suggest_what_one_call_does():
    """optuna/optuna#2771: n calls with one trial equal one call with n trials."""
    one, many = study_of(), study_of()
    optimize(one, bowl, n_trials=5)
    for _ in range(5):
        optimize(many, bowl, n_trials=1)
    assert [t.params for t in one.trials] == [t.params for t in many.trials]


# ---- values and failures -------------------------------------------------------------------


def test_constraints_are_kept_to():
    """optuna/optuna#4265, mended: a quarter of the trials or more are feasible, some good."""

    def objective(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_constraint("sum", x + y - 0.7)
        return x + y

    study = study_of(direction="maximize")
    optimize(study, objective, 16)
    # Optuna's TPESampler has 6 or 7 of 16, for four seeds.
    feasible = [trial.value for trial in study.trials if trial.constraints["sum"] <= 0]
    assert len(feasible) >= 4
    assert max(feasible) > 0.5


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_do_not_end_the_study(bad):
    """optuna/optuna#136: NaN fails the trial, infinity completes it; the optimum is found."""
    study = study_of()
    optimize(study, lambda t: bad if bowl(t) > 0.3 else bowl(t), n_trials=10)
    assert (TrialState.FAIL in states(study)) == np.isnan(bad)
    assert study.best_value < 0.05


def test_infinite_values_of_the_better_sign_do_not_end_the_study():
    """optuna/optuna#5374: an objective that overflows does not end the study."""
    study = study_of()
    optimize(study, lambda t: -float("inf") if bowl(t) > 0.4 else bowl(t), n_trials=8)
    assert states(study) == {TrialState.COMPLETE: 8}


def test_a_configuration_that_failed_is_not_tried_again():
    """optuna/optuna#566: of 243 configurations, some of which fail, none is tried twice."""

    def objective(trial):
        total = sum(trial.suggest_categorical(name, (0, 1, 9)) for name in "abcde")
        if total >= 9:
            raise RuntimeError
        return total

    study = study_of(direction="maximize")
    optimize(study, objective, n_trials=15, catch=RuntimeError)
    assert distinct(study) == 15
    assert states(study)[TrialState.COMPLETE] >= 5


def test_a_failing_region_is_left():
    """optuna/optuna#5664: the sampler does not stay where results are NaN."""
    study = study_of()
    optimize(study, lambda t: float("nan") if t.suggest_float("x", 0, 1) > 0.3 else bowl(t), 12)
    assert sum(t.state is TrialState.COMPLETE for t in study.trials[6:]) >= 4


def test_pruned_trials_with_nan_reports_do_not_disturb():
    """optuna/optuna#476: they are pruned trials of the worst kind, and no error."""

    def objective(trial):
        value = bowl(trial)
        trial.report(float("nan") if trial.number % 2 else value, 1)
        if trial.number % 4:
            raise optuna.TrialPruned
        return value

    study = study_of()
    optimize(study, objective, n_trials=8)
    assert states(study) == {TrialState.COMPLETE: 2, TrialState.PRUNED: 6}


def test_a_study_whose_trials_are_all_pruned_learns_from_their_reports():
    """optuna/optuna#1647: what a pruned trial reported last counts."""

    def objective(trial):
        trial.report(bowl(trial), 1)
        raise optuna.TrialPruned

    study = study_of()
    optimize(study, objective, n_trials=9)
    assert min(t.intermediate_values[1] for t in study.trials) < 0.05


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_the_unit_of_the_objective_does_not_matter(scale):
    """facebook/Ax#588, mended: values of any scale are standardised, without a warning."""
    study = study_of()
    optimize(study, lambda t: scale * bowl(t), n_trials=10)
    assert study.best_value / scale < 0.03


def test_numpy_set_to_raise_on_underflow_does_not_end_the_study():
    """optuna/optuna#2639: no error and no random fallback under `np.seterr(all="raise")`."""
    study = study_of()
    with np.errstate(all="raise"):
        optimize(study, lambda t: t.suggest_float("lambda", 1e-7, 1.0, log=True) * bowl(t), 8)
    assert states(study) == {TrialState.COMPLETE: 8}


def test_a_study_that_has_converged_goes_on():
    """optuna/optuna#5358: new suggestions beside an optimum that lies at a bound."""
    study = study_of()
    optimize(study, lambda t: t.suggest_float("x", 0, 1), n_trials=10)
    assert distinct(study) == 10
    assert study.best_value < 1e-3


# ---- processes that end, and other samplers ------------------------------------------------


def test_a_stale_trial_is_retried_with_its_values(tmp_path):
    """optuna/optuna#6085: the configuration of a killed worker runs again, once."""
    storage = RDBStorage(
        f"sqlite:///{tmp_path / 'hpo.db'}",
        heartbeat_interval=60,
        grace_period=120,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=1),
    )
    study = study_of(storage=storage)
    optimize(study, bowl, n_trials=3)
    with pytest.warns(UserWarning, match="supposed to be used with Study.optimize"):
        killed = study.ask()
    bowl(killed)
    storage.record_heartbeat(killed._trial_id)
    with storage.engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
        )
    optimize(study, bowl, n_trials=2)
    assert study.trials[3].state is TrialState.FAIL
    assert study.trials[4].params == killed.params
    assert distinct(study) == len(study.trials) - 1


def test_running_trials_of_dead_workers_neither_block_nor_are_repeated():
    """optuna/optuna#5860: the study goes on around trials that stay RUNNING for ever."""
    study = study_of()
    for _ in range(4):
        bowl(study.ask())
    optimize(study, bowl, n_trials=8)
    assert distinct(study) == 12
    assert study.best_value < 0.05


def test_known_observations_are_learned_from():
    """optuna/optuna#3104: trials added by hand are used by the next suggestions."""
    study = with_random_trials(study_of(), SQUARE, bowl_at, 20)
    optimize(study, bowl, n_trials=3)
    assert min(t.value for t in study.trials[-3:]) < 0.02


def test_a_study_begun_with_another_sampler_is_continued():
    """optuna/optuna#2264: the trials of a random search are used."""
    study = study_of(RandomSampler(seed=0))
    optimize(study, bowl, n_trials=15)
    study.sampler = MetaSampler(seed=0)
    optimize(study, bowl, n_trials=3)
    assert min(t.value for t in study.trials[-3:]) < 0.02


def test_a_batch_is_asked_for_with_the_space_stated_in_full():
    """optuna/optuna#2916: four different configurations at once, to be told later."""
    space = {
        "lr": FloatDistribution(1e-5, 1e-1, log=True),
        "layers": IntDistribution(1, 4),
        "activation": CategoricalDistribution(["relu", None]),
    }
    study = study_of()
    for _ in range(2):
        batch = [study.ask(space) for _ in range(4)]
        assert len({repr(trial.params) for trial in batch}) == 4
        for trial in batch:
            study.tell(trial, abs(np.log10(trial.params["lr"]) + 3) + trial.params["layers"])
    assert states(study) == {TrialState.COMPLETE: 8}


@pytest.mark.parametrize("n_trials", [None, 20])
def test_a_callback_ends_the_study(n_trials):
    """optuna/optuna#3518: MaxTrialsCallback stops after its number of trials."""
    study = study_of()
    optimize(study, bowl, n_trials=n_trials, callbacks=[MaxTrialsCallback(5)])
    assert len(study.trials) == 5


# ---- kinds of parameters -------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution:UserWarning")
@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_as_choices_survive_a_storage_and_tuples_do_as_with_tpe(kind, tmp_path):
    """optuna/optuna#4893: lists work; tuples, returned as lists, fail as with TPESampler."""
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    shapes = [kind(shape) for shape in ((100, 10), (10, 1), (1,))]

    def objective(trial):
        shape = trial.suggest_categorical("shape", shapes)
        return len(shape) + trial.suggest_float("x", 0, 1)

    outcomes = []
    for sampler in (TPESampler(n_startup_trials=2, seed=0), MetaSampler(seed=0)):
        study = study_of(sampler, storage=storage)
        optimize(study, objective, 4, catch=ValueError)
        outcomes.append(TrialState.FAIL in states(study))
    assert outcomes == [kind is tuple] * 2


@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution:UserWarning")
@pytest.mark.parametrize(
    "choices",
    [
        pytest.param([torch.nn.Tanh, torch.nn.ReLU], id="classes"),
        pytest.param([np.int64(16), np.int64(32)], id="numpy-scalars"),
        pytest.param([(1, {"a": 2}), (2, [3])], id="unhashable-within-tuples"),
    ],
)
def test_choices_may_be_any_objects_in_the_study_and_in_its_history(choices):
    """DLR-RM/rl-baselines3-zoo#2, mended: classes, NumPy's numbers, lists within tuples work."""

    def objective(trial):
        choice = trial.suggest_categorical("choice", choices)
        return trial.suggest_float("x", 0, 1) + choices.index(choice)

    past = study_of()
    optimize(past, objective, n_trials=5)
    study = study_of(MetaSampler(history=past, seed=1))
    optimize(study, objective, n_trials=4)
    assert all(trial.params["choice"] in choices for trial in study.trials)


def test_parameters_with_a_single_value_stand_beside_others():
    """optuna/optuna#447: they are served and disturb no other."""

    def objective(trial):
        trial.suggest_float("one", 0.5, 0.5)
        trial.suggest_int("two", 3, 3)
        trial.suggest_categorical("three", ["only"])
        return bowl(trial)

    study = study_of()
    optimize(study, objective, n_trials=8)
    assert states(study) == {TrialState.COMPLETE: 8}


def test_steps_are_met_exactly():
    """optuna/optuna#3820: values lie on the grid, as decimal fractions do."""
    study = study_of()
    optimize(
        study,
        lambda t: (
            t.suggest_float("l1", 0, 10, step=0.1) + t.suggest_float("l2", 0.05, 1, step=0.05)
        ),
        n_trials=7,
    )
    for trial in study.trials:
        for name, step in (("l1", 0.1), ("l2", 0.05)):
            assert abs(trial.params[name] / step - round(trial.params[name] / step)) < 1e-9


def test_values_on_a_logarithmic_scale_stay_within_their_bounds():
    """optuna/optuna#5457: no value beyond a bound by rounding, even where the bound is best."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study = study_of()
        optimize(
            study,
            lambda t: (
                t.suggest_float("low", 1e-6, 0.1, log=True)
                - t.suggest_float("high", 1e-6, 0.1, log=True)
                - t.suggest_int("n", 1, 1000, log=True)
            ),
            n_trials=8,
        )
    assert all(1e-6 <= t.params[n] <= 0.1 for t in study.trials for n in ("low", "high"))


@pytest.mark.slow
def test_hundreds_of_parameters_are_suggested():
    """optuna/optuna#3151: a hundred parameters in each trial."""
    study = study_of()
    optimize(study, lambda t: sum(t.suggest_float(f"x{i}", 0, 1) for i in range(100)), n_trials=12)
    assert states(study) == {TrialState.COMPLETE: 12}


@pytest.mark.slow
def test_a_study_of_two_thousand_trials_goes_on():
    """optuna/optuna#2172: good suggestions after two thousand trials."""
    study = with_random_trials(study_of(), SQUARE, bowl_at, 2000)
    optimize(study, bowl, n_trials=2)
    assert min(t.value for t in study.trials[-2:]) < 0.01


# ---- what the process has set --------------------------------------------------------------


def suggested_to_boosting(surrogate: str) -> list[dict]:
    study = study_of(MetaSampler(surrogate=surrogate, seed=0))
    for _ in range(4):
        trial = study.ask(BOOSTING)
        study.tell(trial, boosting_at(trial.params))
    assert_no_fallback(study)
    return [trial.params for trial in study.trials]


suggested_plainly = functools.cache(suggested_to_boosting)


@contextlib.contextmanager
def default_dtype(dtype):
    former = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(former)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(lambda: default_dtype(torch.float64), id="float64"),
        pytest.param(lambda: default_dtype(torch.float16), id="float16"),
        pytest.param(lambda: torch.device("meta"), id="device"),
        pytest.param(torch.no_grad, id="no_grad"),
        pytest.param(torch.inference_mode, id="inference_mode"),
    ],
)
@pytest.mark.parametrize("surrogate", ["neural", "gp"])
def test_settings_of_pytorch_do_not_change_the_suggestions(settings, surrogate):
    """optuna/optuna#6418: the same under another default dtype or device and without gradients."""
    with settings():
        configured = suggested_to_boosting(surrogate)
    assert configured == suggested_plainly(surrogate)
