"""A study's surrogate with a pretrained network in it, and its way through policy and plug-ins."""

import math
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.distributions import FloatDistribution
from support.problems import CONDITIONAL as SPACE

from metahpo.settings import DEFAULT_SETTINGS, PolicySettings, PortfolioSettings, TrustSettings
from metahpo.suggest.decision import Source
from metahpo.suggest.history import History
from metahpo.suggest.policy import suggest
from metahpo.surrogate.aligned_history import AlignedHistory
from metahpo.surrogate.gp.gp_family import GaussianFamily
from metahpo.surrogate.mixture import Mixture, misleads
from metahpo.surrogate.neural.neural_model import NeuralModel
from metahpo.surrogate.neural.neural_process import Architecture, NeuralProcess
from metahpo.surrogate.neural.pretrained import WeightsError, save_weights
from metahpo.surrogate.pretrained_family import (
    PretrainedFamily,
    beats_past_models,
    encoded_past,
    pretrained_family,
    shares_names,
    trained_on,
)
from metahpo.surrogate.study_arrays import StudyArrays, study_arrays
from metahpo.tasks.alignment import identity_of
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial, TrialState
from optuna_meta import MetaSampler


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network that was never trained: a kernel smoother, as it begins."""
    torch.manual_seed(0)
    network = NeuralProcess(Architecture(width=16, heads=2, layers=2, past_layers=1, bars=24))
    network.learners = frozenset({frozenset(map(identity_of, SPACE))})
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(network, path)
    return str(path)


TRUST = TrustSettings()
# Whatever a network predicts of the past, it is used.
EVERY_LEARNER = PolicySettings(trust=TrustSettings(check_tolerance=1.0))


def with_trust(**settings: float) -> PolicySettings:
    """Settings under which any network is used, with others for its trust."""
    return PolicySettings(trust=TrustSettings(check_tolerance=1.0, **settings))


def value(configuration) -> float:
    return -((math.log10(configuration["lr"]) + 2) ** 2) - 0.3 * configuration["layers"]


def task(count: int, seed: int = 0, running: int = 0, name: str = "present") -> Task:
    points = SPACE.activate(np.random.default_rng(seed).random((count + running, len(SPACE))))
    made = SPACE.decode(points)
    done = [Trial(c, value(c)) for c in made[:count]]
    waiting = [Trial(c, None, TrialState.RUNNING) for c in made[count:]]
    return Task(name, SPACE, (*done, *waiting))


HISTORY = [task(20, seed, name=f"past-{seed}") for seed in range(1, 4)]


def aligned(present: Task, history: list[Task]) -> AlignedHistory:
    return History(history).view(present, DEFAULT_SETTINGS).aligned


def family(weights: str) -> PretrainedFamily:
    return pretrained_family(Path(weights))


def fit(
    weights: str,
    present: Task,
    history: list[Task],
    settings: PolicySettings = EVERY_LEARNER,
) -> tuple[Mixture, StudyArrays, AlignedHistory]:
    """The surrogate of a study with a network in it, and what it was fitted to."""
    past = aligned(present, history)
    study = study_arrays(present, past.space)
    return family(weights).fit(study, past, settings), study, past


def informed_densities(mixture: Mixture) -> np.ndarray:
    (informed,) = (m.surrogate for m in mixture.members if m.informed)
    return informed.log_densities


# The network and the past are never dropped, so that their evidence can be read.
KEPT = with_trust(prior_log_odds=1e6, past_prior_log_odds=1e6)


# ---- decisions -----------------------------------------------------------------------------


@pytest.mark.parametrize("history", [[], HISTORY])
@pytest.mark.parametrize("count", [0, 1, 3, 12])
def test_decisions_are_sound(weights, history, count):
    decision = suggest(
        task(count, running=2), history, count=3, seed=1, surrogate=weights, settings=EVERY_LEARNER
    )
    assert len({repr(c) for c in decision.configurations}) == 3
    for configuration in decision.configurations:
        active = {n for n in SPACE if n != "momentum" or configuration["optimizer"] == "sgd"}
        assert configuration.keys() == active
        assert all(SPACE.distributions[n]._contains(SPACE.distributions[n].to_internal_repr(v))
                   for n, v in configuration.items())  # fmt: skip
    assert (decision.trust is None) == (not history)
    if count > 1 or not history:
        assert decision.source is Source.ACQUISITION
    # Fewer than two trials without a past do not show the unit of the values.
    predicted = decision.source is Source.ACQUISITION and (count > 1 or bool(history))
    assert (decision.mean is not None) == predicted
    if predicted:
        assert math.isfinite(decision.mean)
        assert decision.deviation > 0


def test_a_kept_history_and_a_new_one_give_equal_decisions(weights):
    kept = History(HISTORY)
    found = [
        suggest(task(9), past, seed=3, surrogate=weights, settings=EVERY_LEARNER)
        for past in (kept, kept, HISTORY)
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    "settings",
    [
        PolicySettings(transfer=False),
        with_trust(weigh=False),
        PolicySettings(portfolio=PortfolioSettings(enabled=False)),
    ],
    ids=["transfer", "trust", "portfolio"],
)
def test_each_part_of_the_policy_can_be_switched_off(weights, settings):
    decision = suggest(task(6), HISTORY, seed=3, surrogate=weights, settings=settings)
    assert len(decision.configurations) == 1
    if not settings.trust.weigh:
        assert decision.trust == 1.0


# ---- evidence ------------------------------------------------------------------------------


def test_each_trial_is_predicted_from_the_ones_before(weights):
    """Against models made one by one; what was kept on the way changes nothing."""
    network = family(weights).network
    for count in (5, 6, 9):
        mixture, study, past = fit(weights, task(count), HISTORY, KEPT)
        encoded = encoded_past(network, past)
        expected = []
        for row in range(count):
            before = study.points[:row], study.values[:row]
            model = NeuralModel(network, study.space, *before, encoded)
            at = slice(row, row + 1)
            expected.append(float(model.log_densities(study.points[at], study.values[at])[0]))
        assert informed_densities(mixture) == pytest.approx(expected)


@pytest.mark.parametrize("unit", [1.0, 1024.0])
def test_trials_are_evidence_once_the_unit_of_values_is_known(weights, unit):
    """Without a past, two different values show it: the third trial is the first evidence."""
    observed = task(6)
    scaled = Task("scaled", observed.space, tuple(_scaled(t, unit) for t in observed.trials))
    found = informed_densities(fit(weights, scaled, [], KEPT)[0])
    assert np.isnan(found).tolist() == [True] * 2 + [False] * 4
    unscaled = informed_densities(fit(weights, observed, [], KEPT)[0])
    assert found[2:] == pytest.approx(unscaled[2:] - np.log(unit))


def _scaled(trial: Trial, unit: float) -> Trial:
    assert trial.value is not None
    return Trial(trial.configuration, unit * trial.value)


def test_only_the_latest_trials_are_evidence_for_a_network(weights):
    settings = with_trust(evidence_trials=4, prior_log_odds=1e6, past_evidence_trials=0)
    found = informed_densities(fit(weights, task(10), HISTORY, settings)[0])
    assert np.isnan(found).tolist() == [True] * 6 + [False] * 4


def test_an_untrained_network_loses_its_weight(weights):
    """It smooths; after twenty trials a Gaussian process predicts a bowl far better."""
    trust = fit(weights, task(20), [])[0].trust
    assert trust is not None
    assert trust < 0.1


def test_past_tasks_are_left_out_where_trials_contradict_them():
    rng = np.random.default_rng(0)
    alone = rng.normal(size=20)
    assert not misleads(alone, alone, TRUST)
    assert not misleads(alone + 0.1, alone, TRUST)
    assert misleads(alone - 0.2, alone, TRUST)
    # One surprise is not enough where the rest agrees, nor is what cannot be compared.
    surprised = alone + 0.2
    surprised[5] -= 50.0
    assert not misleads(surprised, alone, TRUST)
    assert not misleads(np.full(20, np.nan), alone, TRUST)


def test_a_network_without_a_misleading_past_is_one_that_never_read_it(weights):
    point = task(3).space.encode([task(3).trials[0].configuration])
    left_out = fit(weights, task(3), HISTORY, with_trust(past_prior_log_odds=-1e6))[0]
    never_read = fit(weights, task(3), HISTORY, PolicySettings(transfer=False))[0]
    read = fit(weights, task(3), HISTORY, with_trust(past_prior_log_odds=1e6))[0]
    assert left_out.trust == 0.0
    assert left_out.members[0].informed
    assert left_out.predict(point) == never_read.predict(point)
    assert read.predict(point) != never_read.predict(point)


def test_decisions_name_no_past_tasks_that_were_left_out(weights):
    present = task(3)
    assert suggest(present, HISTORY, surrogate=weights, settings=EVERY_LEARNER).past_tasks
    settings = with_trust(past_prior_log_odds=-1e6)
    decision = suggest(present, HISTORY, surrogate=weights, settings=settings)
    assert decision.trust == 0.0
    assert decision.past_tasks == ()


# ---- which learners a network was trained on -----------------------------------------------


def test_gaussian_processes_take_over_where_past_tasks_predict_each_other_better():
    """The shipped network was not trained on such tasks, which are all alike."""
    network = pretrained_family().network
    assert not beats_past_models(network, aligned(task(5), HISTORY), TRUST)
    decision = suggest(task(5), HISTORY, seed=1, surrogate="neural")
    assert decision == suggest(task(5), HISTORY, seed=1, surrogate="gp")


def test_a_past_in_another_unit_misleads_and_the_same_function_in_its_own_does_not():
    present = task(12)

    def trust(factor: float, settings: PolicySettings = EVERY_LEARNER) -> float | None:
        trials = (Trial(t.configuration, factor * value(t.configuration)) for t in task(30).trials)
        past = aligned(present, [Task("past", SPACE, tuple(trials))])
        mixture = pretrained_family()._network_mixture(
            study_arrays(present, past.space), past, settings
        )
        return mixture.trust

    assert trust(1.0) != 0.0
    assert trust(30.0) == 0.0
    # The first trials decide.
    assert trust(30.0, with_trust(past_evidence_trials=2)) != 0.0


def test_a_history_that_misleads_gaussian_processes_is_left_behind():
    """Tasks much like each other, which the present one is the opposite of."""

    def turned(name: str) -> Task:
        trials = (Trial(t.configuration, -value(t.configuration)) for t in task(20).trials)
        return Task(name, SPACE, tuple(trials))

    history = [turned("one"), turned("two")]
    present = task(20)
    past = aligned(present, history)
    study = study_arrays(present, past.space)
    assert not beats_past_models(pretrained_family().network, past, TRUST)
    trust = GaussianFamily().fit(study, past, DEFAULT_SETTINGS).trust
    assert trust is not None
    assert trust < TRUST.min_gp_trust
    decision = suggest(present, history, seed=1)
    assert decision.trust == 0.0
    assert decision.past_tasks == ()
    alone = pretrained_family().fit(study, past, PolicySettings(transfer=False))
    predicted = alone.predict(study.space.encode(decision.configurations))
    assert predicted is not None
    assert (decision.mean, decision.deviation) == pytest.approx(tuple(p[0] for p in predicted))


def test_a_past_that_contradicts_itself_leaves_the_network_its_chance(weights):
    """Each task's order is the other's upside down: anything is better than the other task."""

    def turned(past: Task) -> Task:
        trials = (Trial(t.configuration, -value(t.configuration)) for t in past.trials)
        return Task("turned", SPACE, tuple(trials))

    history = [HISTORY[0], turned(task(20, 5))]
    assert beats_past_models(family(weights).network, aligned(task(5), history), TRUST)


@pytest.mark.parametrize("history", [[], HISTORY[:1]])
def test_fewer_than_two_past_tasks_are_no_evidence_for_a_network(weights, history):
    assert not beats_past_models(family(weights).network, aligned(task(5), history), TRUST)


def test_the_shipped_network_was_trained_on_its_learners_and_no_others():
    """Some hyperparameters more or less do not matter."""
    network, number = pretrained_family().network, FloatDistribution(0, 1)
    trees = ["maxdepth", "minsplit", "minbucket", "cp"]
    assert trained_on(network, Space(dict.fromkeys(trees, number)), TRUST)
    assert not trained_on(network, Space({"x": number, "y": number}), TRUST)
    assert not trained_on(network, Space({"lr": number, "layers": number}), TRUST)


def test_familiar_hyperparameters_are_searched_by_the_network_before_any_trial():
    """Those of boosted trees under their names in another library; others are explored first."""
    network, number = pretrained_family().network, FloatDistribution(0, 1)
    names = ["learning_rate", "num_leaves", "feature_fraction", "bagging_fraction", "max_bin"]
    familiar = Space(dict.fromkeys(names, number))
    assert shares_names(network, familiar, TRUST)
    assert not trained_on(network, familiar, TRUST)
    assert suggest(Task("new", familiar), []).source is Source.ACQUISITION
    strange = Space({f"p{i}": number for i in range(4)})
    assert not shares_names(network, strange, TRUST)
    assert not shares_names(network, Space({}), TRUST)
    assert suggest(Task("new", strange), []).source is Source.SPACE_FILLING


def test_learners_are_kept_with_the_weights(weights):
    assert trained_on(family(weights).network, SPACE, TRUST)


# ---- names and files -----------------------------------------------------------------------


def test_weights_are_read_again_when_their_file_has_changed(weights, tmp_path):
    path = tmp_path / "own.safetensors"
    path.write_bytes(Path(weights).read_bytes())
    first = pretrained_family(path)
    assert pretrained_family(path) is first
    save_weights(NeuralProcess(Architecture(width=8, heads=2, layers=1, past_layers=1)), path)
    assert pretrained_family(path) is not first


def test_a_file_without_weights_is_refused(tmp_path):
    path = tmp_path / "notes.safetensors"
    path.write_text("nothing")
    with pytest.raises(WeightsError, match="metahpo train surrogate"):
        suggest(task(4), [], surrogate=str(path))


@pytest.mark.parametrize(
    ("given", "error"), [("nural", FileNotFoundError), (Path("none"), FileNotFoundError),
                         (3, TypeError), (None, TypeError)]
)  # fmt: skip
def test_a_surrogate_that_is_no_name_and_no_file_is_refused(given, error):
    with pytest.raises(error, match="surrogate must be"):
        MetaSampler(surrogate=given)


def test_a_sampler_with_a_file_of_weights_runs_a_study(weights):
    sampler = MetaSampler(surrogate=weights, history=HISTORY, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-5, 1, log=True)
        return value({"lr": lr, "layers": trial.suggest_int("layers", 1, 4)})

    study.optimize(objective, n_trials=5)
    assert len(study.trials) == 5
