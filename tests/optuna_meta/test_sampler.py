"""MetaSampler within one process: recommendations, records, tasks for the policy, failures."""

import copy
import logging
import math
import pickle
import warnings

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState as OptunaState

from metahpo import Space, Task, Trial, TrialState
from metahpo.metafeatures import extract
from metahpo.suggest.decision import Decision, Source
from metahpo.suggest.policy import ModelError
from metahpo.surrogate.registry import register_surrogate, surrogate_names
from optuna_meta import MetaSampler, explain

LR = FloatDistribution(1e-5, 1.0, log=True)
LAYERS = IntDistribution(1, 8)
OPTIMIZER = CategoricalDistribution(["sgd", "adam"])


def value(configuration) -> float:
    """Larger is better; best at lr=0.01, three layers and adam."""
    return (
        -abs(math.log10(configuration["lr"]) + 2)
        - abs(configuration["layers"] - 3)
        - (configuration["optimizer"] != "adam")
    )


def past(name: str = "past", seed: int = 0, trials: int = 30) -> Task:
    space = Space({"lr": LR, "layers": LAYERS, "optimizer": OPTIMIZER})
    tried = space.decode(np.random.default_rng(seed).random((trials, 3)))
    tried.append({"lr": 0.01, "layers": 3, "optimizer": "adam"})
    return Task(name, space, tuple(Trial(c, value(c)) for c in tried))


PAST = [past("first", 0), past("second", 1)]


def suggest_all(trial) -> dict:
    return {
        "lr": trial.suggest_float("lr", 1e-5, 1.0, log=True),
        "layers": trial.suggest_int("layers", 1, 8),
        "optimizer": trial.suggest_categorical("optimizer", ["sgd", "adam"]),
    }


def objective(trial) -> float:
    return -value(suggest_all(trial))


def square(trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


@pytest.fixture
def calls(monkeypatch):
    """The calls of the policy: task, history and keyword arguments."""
    from metahpo.suggest import policy

    made = []
    suggest = policy.suggest

    def spy(task, history, **options):
        made.append((task, history, options))
        return suggest(task, history, **options)

    monkeypatch.setattr(policy, "suggest", spy)
    return made


@pytest.fixture
def decided(monkeypatch):
    """Makes the policy decide what the test puts here."""
    configuration = {}
    monkeypatch.setattr(
        "metahpo.suggest.policy.suggest",
        lambda *_, **__: Decision((dict(configuration),), Source.PORTFOLIO, "By the test."),
    )
    return configuration


@pytest.fixture
def logged(monkeypatch):
    """The messages that are logged at level WARNING."""
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("optuna")
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


# ---- the first trial -----------------------------------------------------------------------


def test_the_first_trial_is_a_recommendation_from_the_history():
    study = optuna.create_study(sampler=MetaSampler(history=PAST, seed=0))
    study.optimize(objective, n_trials=1)
    assert study.best_value < 0.5
    assert "first" in explain(study.trials[0])


def test_the_first_trials_that_run_at_once_differ():
    study = optuna.create_study(sampler=MetaSampler(history=PAST, seed=0))
    trials = [study.ask() for _ in range(4)]
    tried = [suggest_all(trial) for trial in trials]
    assert len({tuple(c.values()) for c in tried}) == 4


def test_trials_that_decide_at_once_differ(calls):
    study = optuna.create_study(sampler=MetaSampler(history=PAST, seed=0))
    trials = [study.ask() for _ in range(4)]
    # The last one decides first, when nothing is known of the others' plans.
    tried = [suggest_all(trial) for trial in reversed(trials)]
    assert [options["count"] for _, _, options in calls] == [4, 3, 2, 1]
    assert len({tuple(c.values()) for c in tried}) == 4


def test_without_any_history_the_first_trial_is_random():
    values = set()
    for seed in range(5):
        study = optuna.create_study(sampler=MetaSampler(seed=seed))
        study.optimize(square, n_trials=1)
        values.add(study.trials[0].params["x"])
        assert "drawn at random" in explain(study.trials[0])
    assert len(values) == 5


@pytest.mark.parametrize(
    ("recommended", "distribution", "expected"),
    [
        (0.5, FloatDistribution(0, 1), 0.5),
        (0.1, FloatDistribution(0, 0.7), 0.1),
        (5, FloatDistribution(0, 1), 1.0),
        (-5, FloatDistribution(0, 1), 0.0),
        (-5, FloatDistribution(1e-3, 1, log=True), ...),
        (1e-9, FloatDistribution(1e-3, 1, log=True), 1e-3),
        (0.37, FloatDistribution(0, 1, step=0.25), 0.25),
        (4.6, IntDistribution(1, 8), 5),
        (5.0, IntDistribution(1, 8), 5),
        (99, IntDistribution(1, 8), 8),
        (100, IntDistribution(1, 1000, log=True), 100),
        ("adam", CategoricalDistribution(["sgd", "adam"]), "adam"),
        (None, CategoricalDistribution([None, "adam"]), None),
        (True, CategoricalDistribution([False, True]), True),
        ("lion", CategoricalDistribution(["sgd", "adam"]), ...),
        (0.3, CategoricalDistribution(["sgd", "adam"]), ...),
        ("sgd", FloatDistribution(0, 1), ...),
        (math.nan, FloatDistribution(0, 1), ...),
    ],
)
def test_a_recommendation_is_fitted_to_the_requested_distribution(
    decided, recommended, distribution, expected
):
    decided["x"] = recommended
    study = optuna.create_study(sampler=MetaSampler(history=PAST, seed=0))
    got = study.ask({"x": distribution}).params["x"]
    if expected is ...:
        assert distribution._contains(distribution.to_internal_repr(got))
    else:
        assert got == (pytest.approx(expected) if isinstance(expected, float) else expected)
        assert type(got) is type(expected)


def test_a_recommendation_is_served_under_synonyms():
    def renamed(trial):
        rate = trial.suggest_float("learning_rate", 1e-4, 0.1, log=True)
        return -value({"lr": rate, "layers": trial.suggest_int("num_layers", 1, 8)} | rest(trial))

    def rest(trial):
        return {"optimizer": trial.suggest_categorical("optimizer", ["sgd", "adam"])}

    study = optuna.create_study(sampler=MetaSampler(history=PAST, seed=0))
    study.optimize(renamed, n_trials=1)
    assert study.best_value < 0.5


def test_a_value_missing_from_a_recommendation_is_random_and_reproducible():
    def wider(trial):
        return objective(trial) + trial.suggest_float("new", 0, 1)

    studies = [
        optuna.create_study(sampler=MetaSampler(history=PAST, seed=seed)) for seed in (0, 0, 1)
    ]
    for study in studies:
        study.optimize(wider, n_trials=1)
    first, same, other = (study.trials[0].params["new"] for study in studies)
    assert first == same != other


# ---- the space -----------------------------------------------------------------------------


def test_the_space_is_the_latest_distribution_of_every_hyperparameter(calls):
    def changing(trial):
        if trial.number == 0:
            return trial.suggest_float("a", 0, 1) + trial.suggest_int("once", 0, 3)
        return trial.suggest_float("a", 0, trial.number) + trial.suggest_float("b", 0, 1)

    study = optuna.create_study(sampler=MetaSampler(seed=0))
    study.optimize(changing, n_trials=4)
    assert calls[-1][0].space.distributions == {
        "a": FloatDistribution(0, 2),
        "once": IntDistribution(0, 3),
        "b": FloatDistribution(0, 1),
    }


def test_conditional_parameters_are_served_without_a_warning(logged):
    def conditional(trial):
        if trial.suggest_categorical("optimizer", ["sgd", "adam"]) == "sgd":
            return trial.suggest_float("momentum", 0, 1)
        return trial.suggest_float("beta", 0, 1) + 0.1

    study = optuna.create_study(sampler=MetaSampler(seed=0))
    study.optimize(conditional, n_trials=12)
    assert {len(trial.params) for trial in study.trials} == {2}
    assert logged == []


def test_a_range_that_moves_is_served_within_its_new_bounds(logged):
    study = optuna.create_study(sampler=MetaSampler(seed=0))
    for low in (0, 0, 5, 5, -20):
        study.optimize(lambda t, low=low: t.suggest_float("x", low, low + 2), n_trials=2)
        assert all(low <= t.params["x"] <= low + 2 for t in study.trials[-2:])
    assert logged == []


@pytest.mark.parametrize("warn", [True, False])
def test_a_warning_names_a_known_parameter_that_is_drawn_at_random(decided, logged, warn):
    decided["x"] = 0.5
    sampler = MetaSampler(history=PAST, seed=0, warn_independent_sampling=warn)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: t.suggest_float("x", 0, 1) + t.suggest_float("y", 0, 1), n_trials=1)
    assert logged == []
    study.optimize(lambda t: t.suggest_float("x", 0, 1) + t.suggest_float("y", 0, 1), n_trials=1)
    assert len(logged) == (1 if warn else 0)
    assert all("'y' is drawn at random" in message for message in logged)


def test_choices_may_be_unhashable():
    def nested(trial):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            width = trial.suggest_categorical("widths", [[64, 64], [32]])
        return sum(width) + trial.suggest_float("x", 0, 1)

    study = optuna.create_study(sampler=MetaSampler(seed=0))
    study.optimize(nested, n_trials=6)
    assert len(study.trials) == 6


def test_a_study_may_have_no_parameters_or_ones_with_a_single_value(calls):
    study = optuna.create_study(sampler=MetaSampler(history=PAST, seed=0))
    study.optimize(lambda trial: 1.0, n_trials=2)
    study.optimize(lambda trial: trial.suggest_int("only", 3, 3), n_trials=2)
    assert study.trials[-1].params == {"only": 3}


@pytest.mark.parametrize("at_once", [1, 6])
def test_failures_do_not_repeat_a_configuration_with_a_new_parameter(at_once):
    """The history knows the optimizer alone; the objective fails before it asks for the rest."""
    space = Space({"optimizer": OPTIMIZER})
    known = Task(
        "past", space, (Trial({"optimizer": "adam"}, 1.0), Trial({"optimizer": "sgd"}, 0.0))
    )
    study = optuna.create_study(sampler=MetaSampler(history=known, seed=0))
    plans = []
    for _ in range(12 // at_once):
        trials = [study.ask() for _ in range(at_once)]
        for trial in trials:
            plans.append((trial.suggest_categorical("optimizer", ["sgd", "adam"]),))
            if trial.number < 6 or trial.number % 2:
                plans[-1] += (trial.suggest_int("layers", 1, 8),)
        for trial in trials:
            study.tell(trial, state=OptunaState.FAIL)
    whole = [plan for plan in plans if len(plan) == 2]
    assert len({layers for _, layers in whole}) > 3
    # What the first ones draw before any has shown the space may meet by chance.
    first, later = set(whole[:at_once]), whole[at_once:]
    assert len(set(later) - first) == len(later) == 9 - at_once
    assert len(first) > at_once / 2


# ---- the task for the policy ---------------------------------------------------------------


@pytest.mark.parametrize(("direction", "sign"), [("minimize", -1.0), ("maximize", 1.0)])
def test_the_policy_sees_every_kind_of_trial(calls, direction, sign):
    study = optuna.create_study(direction=direction, sampler=MetaSampler(seed=0))

    def one_of_each(trial):
        x = trial.suggest_float("x", 0, 1)
        if trial.number == 1:
            trial.report(7.0, step=1)
            trial.report(8.0, step=2)
            raise optuna.TrialPruned
        if trial.number == 2:
            return math.nan
        if trial.number == 3:
            raise RuntimeError
        return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.optimize(one_of_each, n_trials=4, catch=RuntimeError)
    running = study.ask({"x": FloatDistribution(0, 1)})
    study.ask({"x": FloatDistribution(0, 1)})

    task = calls[-1][0]
    states = [trial.state for trial in task.trials]
    assert states == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAILED,
        TrialState.FAILED,
        TrialState.RUNNING,
    ]
    assert [t.value for t in task.observed] == [sign * study.trials[0].value, sign * 8.0]
    assert task.trials[-1].configuration == running.params


def test_a_running_trial_counts_with_its_whole_planned_configuration(calls):
    study = optuna.create_study(sampler=MetaSampler(history=PAST, seed=0))
    study.optimize(objective, n_trials=2)
    first = study.ask()
    first.suggest_int("layers", 1, 8)
    second = study.ask()
    second.suggest_int("layers", 1, 8)
    (plan,) = calls[-1][0].running
    assert set(plan.configuration) == {"lr", "layers", "optimizer"}
    assert plan.configuration == suggest_all(first)


def test_a_resumed_trial_keeps_its_planned_configuration():
    study = optuna.create_study(sampler=MetaSampler(history=PAST, seed=0))
    study.optimize(objective, n_trials=2)
    trial = study.ask()
    trial.suggest_int("layers", 1, 8)
    again = optuna.trial.Trial(study, trial._trial_id)
    assert suggest_all(again) == suggest_all(trial)


# ---- enqueued and partly fixed trials ------------------------------------------------------


def test_enqueued_values_are_tried_unchanged():
    study = optuna.create_study(sampler=MetaSampler(history=PAST, seed=0))
    study.enqueue_trial({"lr": 0.5, "layers": 7, "optimizer": "sgd"})
    study.enqueue_trial({"layers": 7})
    study.optimize(objective, n_trials=3)
    study.enqueue_trial({"layers": 8})
    study.optimize(objective, n_trials=1)
    assert [trial.params["layers"] for trial in study.trials[:2]] == [7, 7]
    assert study.trials[3].params["layers"] == 8
    assert {trial.state for trial in study.trials} == {OptunaState.COMPLETE}


def test_values_fixed_by_partial_fixed_sampler_are_kept():
    study = optuna.create_study(sampler=MetaSampler(history=PAST, seed=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.sampler = optuna.samplers.PartialFixedSampler({"layers": 6}, study.sampler)
    study.optimize(objective, n_trials=5)
    assert {trial.params["layers"] for trial in study.trials} == {6}


# ---- the task's meta-features --------------------------------------------------------------


def test_metafeatures_are_stored_with_the_study(calls):
    storage = optuna.storages.InMemoryStorage()
    described = optuna.create_study(
        storage=storage, study_name="a", sampler=MetaSampler(history=PAST, task={"rows": 100})
    )
    described.optimize(objective, n_trials=1)
    worker = optuna.load_study(storage=storage, study_name="a", sampler=MetaSampler(history=PAST))
    worker.optimize(objective, n_trials=1)
    assert calls[-1][0].metafeatures == {"rows": 100.0}


@pytest.mark.parametrize("task", [5, ["rows"], {"rows": "many"}, {3: 1.0}, {"rows": None}])
def test_metafeatures_of_the_wrong_type_are_an_error(task):
    with pytest.raises(TypeError, match="task must"):
        MetaSampler(task=task)


def test_metafeatures_must_be_finite():
    with pytest.raises(ValueError, match="'rows' must be finite"):
        MetaSampler(task={"rows": math.inf})


def test_extracted_metafeatures_decide_which_past_tasks_count():
    """From data and a network to the first trial; what they do not tell is left out."""

    def described(rows: int) -> dict[str, float]:
        """Few rows are of two classes and continuous; many are of five, and of small numbers."""
        rng = np.random.default_rng(rows)
        if rows < 300:
            X, y = rng.normal(size=(rows, 3)), np.arange(rows) % 2
        else:
            X, y = rng.poisson(0.5, size=(rows, 20)), np.arange(rows) % 5
        return extract(X, y, model=torch.nn.Linear(X.shape[1], 2))

    space = Space({"x": optuna.distributions.FloatDistribution(0.0, 1.0)})
    grid = np.linspace(0.0, 1.0, 21).tolist()
    history = [
        Task(
            f"{rows} rows",
            space,
            tuple(Trial({"x": x}, -abs(x - best)) for x in grid),
            described(rows),
        )
        for rows, best in [(180, 0.1), (200, 0.1), (220, 0.1), (400, 0.9), (440, 0.9), (480, 0.9)]
    ]
    firsts = []
    for rows in (190, 450):
        features = described(rows)
        assert any(math.isnan(value) for value in features.values())
        study = optuna.create_study(sampler=MetaSampler(history=history, task=features, seed=0))
        study.optimize(lambda trial: abs(trial.suggest_float("x", 0, 1) - 0.5), n_trials=1)
        firsts.append(study.trials[0].params["x"])
    assert firsts[0] < 0.3
    assert firsts[1] > 0.7


# ---- seeds, copies, reuse ------------------------------------------------------------------


def params_with(sampler, n_trials: int = 5) -> list[dict]:
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=n_trials)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("history", [[], PAST])
def test_equal_seeds_give_equal_suggestions(history):
    first, again, other = (
        params_with(MetaSampler(history=history, seed=seed)) for seed in (0, 0, 1)
    )
    assert first == again
    # What the history recommends may be the same for all.
    assert history or first != other


def test_without_a_seed_suggestions_differ():
    assert params_with(MetaSampler(), 2) != params_with(MetaSampler(), 2)


def test_the_order_in_which_trials_decide_does_not_matter():
    def served(order):
        study = optuna.create_study(sampler=MetaSampler(seed=0))
        trials = [study.ask() for _ in range(3)]
        return {n: trials[n].suggest_float("x", 0, 1) for n in order}

    assert served([0, 1, 2]) == served([2, 0, 1])


def test_reseeding_changes_the_suggestions():
    sampler = MetaSampler(seed=0)
    sampler.reseed_rng()
    assert params_with(sampler, 2) != params_with(MetaSampler(seed=0), 2)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copied_sampler_continues_like_the_original(duplicate):
    sampler = MetaSampler(history=PAST, seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=2)
    twin = copy.deepcopy(study)
    twin.sampler = duplicate(sampler)
    for each in (study, twin):
        each.optimize(objective, n_trials=2)
    assert [t.params for t in study.trials] == [t.params for t in twin.trials]


def test_one_sampler_serves_two_studies():
    sampler = MetaSampler(history=PAST, seed=0)
    assert params_with(sampler) == params_with(sampler)
    study = optuna.create_study(sampler=sampler)
    study.optimize(square, n_trials=3)
    assert all(set(trial.params) == {"x"} for trial in study.trials)


@pytest.mark.parametrize(("seed", "error"), [("0", TypeError), (1.5, TypeError), (-1, ValueError)])
def test_wrong_seeds_are_errors(seed, error):
    with pytest.raises(error, match="seed must"):
        MetaSampler(seed=seed)


# ---- Optuna's machinery --------------------------------------------------------------------


def test_a_study_runs_in_threads_without_repeating_a_trial():
    study = optuna.create_study(sampler=MetaSampler(history=PAST, seed=0))
    study.optimize(objective, n_trials=12, n_jobs=4)
    assert {trial.state for trial in study.trials} == {OptunaState.COMPLETE}
    assert len({tuple(sorted(trial.params.items())) for trial in study.trials}) == 12


def test_a_study_runs_under_hyperband_without_repeating_a_trial():
    def reporting(trial):
        loss = objective(trial)
        for step in range(1, 10):
            trial.report(loss + 1 / step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return loss

    study = optuna.create_study(
        sampler=MetaSampler(history=PAST, task={"rows": 1.0}, seed=0),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9),
    )
    study.optimize(reporting, n_trials=15)
    assert OptunaState.FAIL not in {trial.state for trial in study.trials}
    assert len({trial.params["lr"] for trial in study.trials}) == 15


def test_several_objectives_are_an_error():
    study = optuna.create_study(directions=["minimize"] * 2, sampler=MetaSampler())
    with pytest.raises(ValueError, match="multi-objective"):
        study.optimize(lambda trial: (square(trial), 0.0), n_trials=1)


@pytest.mark.parametrize(
    "error", [RuntimeError("singular"), ModelError("singular"), ZeroDivisionError()]
)
def test_a_model_that_fails_does_not_end_the_study(monkeypatch, logged, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("metahpo.suggest.policy.suggest", fail)
    study = optuna.create_study(sampler=MetaSampler(seed=0))
    study.optimize(square, n_trials=3)
    assert len({trial.params["x"] for trial in study.trials}) == 3
    assert "fallback" in explain(study.trials[-1])
    assert len(logged) == 1
    assert "the model failed" in logged[0]


def test_data_that_a_model_cannot_fit_do_not_end_the_study(monkeypatch, logged):
    """As linear algebra and trees say it, with a ValueError; only a warning, once a study."""

    class Unfit:
        def is_informed(self, *_):
            return True

        def fit(self, *_):
            raise ValueError("Input contains NaN.")

    name = "unfit for all data"
    if name not in surrogate_names():
        register_surrogate(name, Unfit)
    sampler = pickle.loads(pickle.dumps(MetaSampler(seed=0, surrogate=name)))
    for _ in range(2):
        study = optuna.create_study(sampler=sampler)
        study.optimize(square, n_trials=4)
        assert len({trial.params["x"] for trial in study.trials}) == 4
        assert "Input contains NaN" in explain(study.trials[-1])
    assert len(logged) == 2


@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_a_mistake_is_not_hidden(monkeypatch, error):
    def fail(*_, **__):
        raise error("a mistake")

    monkeypatch.setattr("metahpo.suggest.policy.suggest", fail)
    study = optuna.create_study(sampler=MetaSampler(history=PAST))
    with pytest.raises(error, match="a mistake"):
        study.optimize(objective, n_trials=1)


@pytest.mark.parametrize("attribute", [None, [1], "x", 5, {"a": 10**400, "b": [[]]}])
def test_an_attribute_of_others_in_place_of_metafeatures_does_no_harm(attribute):
    study = optuna.create_study(sampler=MetaSampler(seed=0, task={"rows": 5}))
    study._storage.set_study_system_attr(study._study_id, "metahpo:task", attribute)
    study.optimize(square, n_trials=1)
    assert study._storage.get_study_system_attrs(study._study_id)["metahpo:task"] == {"rows": 5.0}


@pytest.mark.parametrize("attribute", [[1], "x", 5, {"a": 10**400, "b": [[]], "rows": 5}])
def test_an_attribute_of_others_does_not_end_a_study_without_metafeatures(attribute):
    study = optuna.create_study(sampler=MetaSampler(seed=0, history=PAST))
    study._storage.set_study_system_attr(study._study_id, "metahpo:task", attribute)
    study.optimize(objective, n_trials=2)
    assert len(study.trials) == 2


def test_names_that_utf_8_cannot_encode_are_searched():
    study = optuna.create_study(sampler=MetaSampler(seed=0), study_name="\ud800")
    study.optimize(lambda trial: trial.suggest_float("\ud800", -1, 1) ** 2, n_trials=4)
    assert len({trial.value for trial in study.trials}) == 4
