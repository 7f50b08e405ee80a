"""A study's surrogate with a pretrained network in it, and its way through policy and plug-ins."""

import math
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from metahpo.suggest.aligned_history import prepare
from metahpo.suggest.modelling import (
    GAUSSIAN,
    NEURAL,
    gaussian_surrogate,
    is_familiar,
    knows,
    network_named,
    neural_surrogate,
    suits,
)
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo.suggest import modelling
from metahpo.suggest.decision import Source
from metahpo.suggest.plugin import SURROGATES
from metahpo.suggest.policy import LOST_TRUST, Switches, suggest
from metahpo.surrogate import mixture
from metahpo.surrogate.mixture import misleads
from metahpo.surrogate.neural.neural_model import NeuralModel, encode_past
from metahpo.surrogate.neural.neural_process import Architecture, NeuralProcess
from metahpo.surrogate.neural.pretrained import WeightsError, save_weights
from metahpo.surrogate.study_arrays import study_arrays
from metahpo.tasks.alignment import identity_of
from metahpo.tasks.space import Condition, Space
from metahpo.tasks.task import Task, Trial, TrialState
from optuna_meta import MetaSampler

SPACE = Space(
    {
        "lr": FloatDistribution(1e-5, 1, log=True),
        "layers": IntDistribution(1, 4),
        "optimizer": CategoricalDistribution(["adam", "sgd"]),
        "momentum": FloatDistribution(0, 1),
    },
    {"momentum": Condition("optimizer", choices=("sgd",))},
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network that was never trained: a kernel smoother, as it begins."""
    torch.manual_seed(0)
    network = NeuralProcess(Architecture(width=16, heads=2, layers=2, past_layers=1, bars=24))
    network.learners = frozenset({frozenset(map(identity_of, SPACE))})
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(network, path)
    return str(path)


@pytest.fixture
def every_learner(monkeypatch):
    """Whatever a network predicts of the past, it is asked."""
    monkeypatch.setattr(modelling, "TOLERANCE", 1.0)


def value(configuration) -> float:
    return -((math.log10(configuration["lr"]) + 2) ** 2) - 0.3 * configuration["layers"]


def task(count: int, seed: int = 0, running: int = 0, name: str = "present") -> Task:
    points = SPACE.activate(np.random.default_rng(seed).random((count + running, len(SPACE))))
    made = SPACE.decode(points)
    done = [Trial(c, value(c)) for c in made[:count]]
    waiting = [Trial(c, None, TrialState.RUNNING) for c in made[count:]]
    return Task(name, SPACE, (*done, *waiting))


HISTORY = [task(20, seed, name=f"past-{seed}") for seed in range(1, 4)]


# ---- decisions -----------------------------------------------------------------------------


@pytest.mark.parametrize("history", [[], HISTORY])
@pytest.mark.parametrize("count", [0, 1, 3, 12])
@pytest.mark.usefixtures("every_learner")
def test_decisions_are_sound(weights, history, count):
    decision = suggest(task(count, running=2), history, count=3, seed=1, surrogate=weights)
    assert len({repr(c) for c in decision.configurations}) == 3
    for configuration in decision.configurations:
        active = {n for n in SPACE if n != "momentum" or configuration["optimizer"] == "sgd"}
        assert configuration.keys() == active
        assert all(SPACE.distributions[n]._contains(SPACE.distributions[n].to_internal_repr(v))
                   for n, v in configuration.items())  # fmt: skip
    assert (decision.trust is None) == (not history)
    if count > 1 or not history:
        assert decision.source is Source.ACQUISITION
    # Of fewer than two trials and no past, nobody knows the unit.
    predicted = decision.source is Source.ACQUISITION and (count > 1 or bool(history))
    assert (decision.mean is not None) == predicted
    if predicted:
        assert math.isfinite(decision.mean)
        assert decision.deviation > 0


@pytest.mark.usefixtures("every_learner")
def test_equal_arguments_give_equal_decisions_with_empty_caches(weights):
    first = suggest(task(9), HISTORY, seed=3, surrogate=weights)
    for cache in (modelling._models, modelling._densities, modelling._encoded, modelling._fits):
        cache.clear()
    assert suggest(task(9), HISTORY, seed=3, surrogate=weights) == first


@pytest.mark.parametrize("switch", ["transfer", "trust", "portfolio", "shrink"])
@pytest.mark.usefixtures("every_learner")
def test_every_part_can_be_switched_off(weights, switch):
    switches = Switches(**{switch: False})
    decision = suggest(task(6), HISTORY, seed=3, surrogate=weights, switches=switches)
    assert len(decision.configurations) == 1
    if switch == "trust":
        assert decision.trust == 1.0


# ---- evidence ------------------------------------------------------------------------------


def test_each_trial_is_predicted_from_the_ones_before(weights):
    """Against models made one by one; what was cached on the way changes nothing."""
    network = network_named(weights)
    for count in (5, 6, 9):
        past = prepare(task(count), HISTORY)
        study = study_arrays(task(count), past.space)
        encoded = encode_past(network, past.tasks, past.space, past.relevance)
        found = modelling._neural(study, past, network, encoded)
        X = study.space.features(study.points)
        expected = []
        for row in range(count):
            before = study.points[:row], study.values[:row]
            model = NeuralModel(network, study.space, *before, encoded)
            density = model.log_densities(X[row : row + 1], study.values[row : row + 1])
            expected.append(float(density[0]))
        assert found.log_densities == pytest.approx(expected)


@pytest.mark.parametrize("unit", [1.0, 1024.0])
def test_trials_are_evidence_once_the_unit_of_values_is_known(weights, unit):
    """Without a past, two different values tell it: the third trial is the first evidence."""
    observed = task(6)
    scaled = Task("scaled", observed.space, tuple(_scaled(t, unit) for t in observed.trials))
    past = prepare(scaled, [])
    study = study_arrays(scaled, past.space)
    found = modelling._neural(study, past, network_named(weights), None).log_densities
    assert np.isnan(found).tolist() == [True] * 2 + [False] * 4
    plain = study_arrays(observed, past.space)
    unscaled = modelling._neural(plain, past, network_named(weights), None).log_densities
    assert found[2:] == pytest.approx(unscaled[2:] - np.log(unit))


def _scaled(trial: Trial, unit: float) -> Trial:
    assert trial.value is not None
    return Trial(trial.configuration, unit * trial.value)


def test_old_trials_are_no_evidence(weights, monkeypatch):
    monkeypatch.setattr(modelling, "EVIDENCE", 4)
    past = prepare(task(10), HISTORY)
    study = study_arrays(task(10), past.space)
    network = network_named(weights)
    found = modelling._neural(study, past, network, None)
    assert np.isnan(found.log_densities).tolist() == [True] * 6 + [False] * 4
    trust = neural_surrogate(study, past, network).trust
    assert trust is not None
    assert 0 <= trust <= 1


def test_a_network_that_knows_nothing_loses_its_weight(weights):
    """Untrained, it smooths; after twenty trials a Gaussian process predicts a bowl far better."""
    past = prepare(task(20), [])
    study = study_arrays(task(20), past.space)
    trust = neural_surrogate(study, past, network_named(weights)).trust
    assert trust is not None
    assert trust < 0.1


def test_past_tasks_are_left_out_where_trials_contradict_them():
    rng = np.random.default_rng(0)
    alone = rng.normal(size=20)
    assert not misleads(alone, alone)
    assert not misleads(alone + 0.1, alone)
    assert misleads(alone - 0.2, alone)
    # One surprise is not enough where the rest agrees, nor is what cannot be compared.
    surprised = alone + 0.2
    surprised[5] -= 50.0
    assert not misleads(surprised, alone)
    assert not misleads(np.full(20, np.nan), alone)


def test_a_network_without_misleading_past_is_one_that_never_saw_it(weights, monkeypatch):
    past = prepare(task(3), HISTORY)
    study = study_arrays(task(3), past.space)
    network = network_named(weights)
    X = study.space.features(study.points[:1])
    monkeypatch.setattr(mixture, "PAST_LOG_ODDS", -1e6)
    left_out = neural_surrogate(study, past, network)
    never_seen = neural_surrogate(study, past, network, transfer=False)
    assert left_out.trust == 0.0
    assert left_out.components[0].informed
    assert left_out.predict(X) == never_seen.predict(X)
    monkeypatch.setattr(mixture, "PAST_LOG_ODDS", 1e6)
    assert neural_surrogate(study, past, network).predict(X) != never_seen.predict(X)


def test_decisions_name_no_past_tasks_that_were_left_out(weights, every_learner, monkeypatch):
    present = task(3)
    assert suggest(present, HISTORY, surrogate=weights).past_tasks
    monkeypatch.setattr(mixture, "PAST_LOG_ODDS", -1e6)
    decision = suggest(present, HISTORY, surrogate=weights)
    assert decision.trust == 0.0
    assert decision.past_tasks == ()


# ---- which learners a network knows --------------------------------------------------------


def test_a_network_is_not_asked_where_the_past_knows_better():
    """The shipped one was not trained on such tasks, which are all alike."""
    past = prepare(task(5), HISTORY)
    assert not suits(past, network_named(NEURAL))
    decision = suggest(task(5), HISTORY, seed=1, surrogate=NEURAL)
    assert decision == suggest(task(5), HISTORY, seed=1, surrogate=GAUSSIAN)


def test_a_past_in_another_unit_misleads_and_the_same_function_in_its_own_does_not(monkeypatch):
    network = network_named(NEURAL)
    present = task(12)

    def trust(factor: float) -> float | None:
        trials = (Trial(t.configuration, factor * value(t.configuration)) for t in task(30).trials)
        past = prepare(present, [Task("past", SPACE, tuple(trials))])
        return neural_surrogate(study_arrays(present, past.space), past, network).trust

    assert trust(1.0) != 0.0
    assert trust(30.0) == 0.0
    # The first trials decide.
    monkeypatch.setattr(modelling, "PAST_EVIDENCE", 2)
    assert trust(30.0) != 0.0


def test_a_history_that_misleads_gaussian_processes_is_left_behind():
    """Tasks much like each other, which the present one is the opposite of."""

    def turned(name: str) -> Task:
        trials = (Trial(t.configuration, -value(t.configuration)) for t in task(20).trials)
        return Task(name, SPACE, tuple(trials))

    history = [turned("one"), turned("two")]
    present = task(20)
    past = prepare(present, history)
    study = study_arrays(present, past.space)
    network = network_named(NEURAL)
    assert not suits(past, network)
    trust = gaussian_surrogate(study, past).trust
    assert trust is not None
    assert trust < LOST_TRUST
    decision = suggest(present, history, seed=1)
    assert decision.trust == 0.0
    assert decision.past_tasks == ()
    alone = neural_surrogate(study, past, network, transfer=False)
    X = study.space.features(study.space.encode(decision.configurations))
    assert (decision.mean, decision.deviation) == pytest.approx(alone.predict(X))


def test_a_past_that_contradicts_itself_leaves_the_network_its_chance(weights):
    """Each task's order is the other's upside down: anything is better than the other task."""

    def turned(past: Task) -> Task:
        trials = (Trial(t.configuration, -value(t.configuration)) for t in past.trials)
        return Task("turned", SPACE, tuple(trials))

    history = [HISTORY[0], turned(task(20, 5))]
    assert suits(prepare(task(5), history), network_named(weights))


@pytest.mark.parametrize("history", [[], HISTORY[:1]])
def test_nothing_is_known_of_a_network_by_less_than_two_tasks(weights, history):
    assert not suits(prepare(task(5), history), network_named(weights))


def test_what_the_shipped_network_knows():
    """The learners that it was trained on, some hyperparameters more or less; no others."""
    network, number = network_named(NEURAL), FloatDistribution(0, 1)
    trees = ["maxdepth", "minsplit", "minbucket", "cp"]
    assert knows(network, Space(dict.fromkeys(trees, number)))
    assert not knows(network, Space({"x": number, "y": number}))
    assert not knows(network, Space({"lr": number, "layers": number}))


def test_familiar_hyperparameters_are_asked_about_before_any_trial():
    """Those of boosted trees under their names in another library; others are explored first."""
    network, number = network_named(NEURAL), FloatDistribution(0, 1)
    names = ["learning_rate", "num_leaves", "feature_fraction", "bagging_fraction", "max_bin"]
    familiar = Space(dict.fromkeys(names, number))
    assert is_familiar(network, familiar)
    assert not knows(network, familiar)
    assert suggest(Task("new", familiar), []).source is Source.ACQUISITION
    strange = Space({f"p{i}": number for i in range(4)})
    assert not is_familiar(network, strange)
    assert not is_familiar(network, Space({}))
    assert suggest(Task("new", strange), []).source is Source.SPACE_FILLING


def test_learners_are_kept_with_the_weights(weights):
    assert knows(network_named(weights), SPACE)


# ---- names and files -----------------------------------------------------------------------


def test_the_plug_ins_name_the_same_surrogates():
    assert set(SURROGATES) == {GAUSSIAN, NEURAL}


def test_weights_are_read_again_when_their_file_has_changed(weights, tmp_path):
    path = tmp_path / "own.safetensors"
    path.write_bytes(Path(weights).read_bytes())
    first = network_named(str(path))
    assert network_named(str(path)) is first
    save_weights(NeuralProcess(Architecture(width=8, heads=2, layers=1, past_layers=1)), path)
    assert network_named(str(path)) is not first


def test_a_file_that_holds_no_weights(tmp_path):
    path = tmp_path / "notes.safetensors"
    path.write_text("nothing")
    with pytest.raises(WeightsError, match="metahpo train surrogate"):
        suggest(task(4), [], surrogate=str(path))


@pytest.mark.parametrize(
    ("given", "error"), [("nural", FileNotFoundError), (Path("none"), FileNotFoundError),
                         (3, TypeError), (None, TypeError)]
)  # fmt: skip
def test_wrong_surrogates(given, error):
    with pytest.raises(error, match="surrogate must be"):
        MetaSampler(surrogate=given)


def test_in_optuna(weights):
    sampler = MetaSampler(surrogate=weights, history=HISTORY, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-5, 1, log=True)
        return value({"lr": lr, "layers": trial.suggest_int("layers", 1, 4)})

    study.optimize(objective, n_trials=5)
    assert len(study.trials) == 5
