"""What the package takes from Optuna's internals; these tests fail first where Optuna changes."""

import warnings

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState

from optuna_meta import MetaSampler, _optuna


@pytest.fixture
def study() -> optuna.Study:
    study = optuna.create_study(study_name="s", storage=InMemoryStorage(), direction="maximize")
    study.enqueue_trial({"x": 0.25})
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    return study


def test_a_study_has_a_storage_and_an_identifier_within_it(study):
    storage = _optuna.storage_of(study)
    assert isinstance(storage, InMemoryStorage)
    assert storage.get_study_name_from_id(_optuna.study_id(study)) == "s"


def test_all_trials_of_a_study_are_those_that_it_shows(study):
    assert _optuna.all_trials(study) == study.trials


def test_all_trials_are_seen_under_hyperband_where_the_study_shows_one_bracket():
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
    seen = []

    def reporting(trial):
        trial.report(0.0, 1)
        trial.should_prune()
        return trial.suggest_float("x", 0, 1)

    class Sampler(optuna.samplers.RandomSampler):
        def infer_relative_search_space(self, study, trial):
            seen.append((len(_optuna.all_trials(study)), len(study.get_trials(deepcopy=False))))
            return {}

    study = optuna.create_study(study_name="s", sampler=Sampler(seed=0), pruner=pruner)
    study.optimize(reporting, n_trials=12)
    assert [every for every, _ in seen] == list(range(1, 13))
    assert any(shown < every for every, shown in seen)


def test_a_study_keeps_system_attributes(study):
    assert _optuna.study_attribute(study, "k") is None
    _optuna.set_study_attribute(study, "k", {"rows": 1})
    assert _optuna.study_attribute(study, "k") == {"rows": 1}


def test_a_trial_keeps_system_attributes_that_its_frozen_form_shows(study):
    live = study.ask()
    _optuna.set_trial_attribute(study, _optuna.frozen(live), "k", [1])
    assert _optuna.frozen(live).system_attrs["k"] == [1]
    assert _optuna.frozen(study.trials[0]) == study.trials[0]


def test_enqueued_values_are_seen(study):
    assert _optuna.enqueued_params(study.trials[0]) == {"x": 0.25}
    assert _optuna.enqueued_params(study.trials[1]) == {}


def test_constraints_are_stored_where_the_frozen_trial_shows_them(study):
    live = study.ask()
    trial = _optuna.frozen(live)
    _optuna.store_constraints(lambda t: (t.number, -1.0), study, trial, OptunaState.COMPLETE)
    assert list(_optuna.frozen(live).constraints.values()) == [2, -1.0]


def test_values_that_samplers_fix_are_seen_and_the_outer_one_counts():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        inner = optuna.samplers.PartialFixedSampler({"x": 1, "y": 1}, MetaSampler(seed=0))
        outer = optuna.samplers.PartialFixedSampler({"x": 2}, inner)
    assert _optuna.sampler_params(optuna.create_study(sampler=outer)) == {"x": 2, "y": 1}
    assert _optuna.sampler_params(optuna.create_study(sampler=MetaSampler(seed=0))) == {}


def test_a_distribution_contains_its_values_and_no_others():
    assert _optuna.contains(FloatDistribution(0, 1), 0.5)
    assert not _optuna.contains(FloatDistribution(0, 1), 2.0)
    assert not _optuna.contains(FloatDistribution(0, 1), "a")
    assert not _optuna.contains(CategoricalDistribution(["a"]), "b")


def test_a_storage_lists_its_studies_with_trials_directions_and_attributes(study):
    _optuna.set_study_attribute(study, "k", 1)
    storage = _optuna.storage_of(study)
    (entry,) = _optuna.studies_in(storage)
    assert (entry.study_id, entry.name) == (_optuna.study_id(study), "s")
    assert list(entry.directions) == [StudyDirection.MAXIMIZE]
    assert entry.attributes == {"k": 1}
    assert _optuna.trials_in(storage, entry.study_id) == study.trials


def test_a_database_has_an_engine_behind_the_cache_of_its_studies(tmp_path):
    url = f"sqlite:///{tmp_path / 'hpo.db'}"
    storage = _optuna.storage_of(optuna.create_study(storage=url))
    assert isinstance(_optuna.without_cache(storage), RDBStorage)
    engine = _optuna.engine_of(storage)
    assert engine is not None
    assert engine.url.render_as_string() == url
    assert _optuna.engine_of(InMemoryStorage()) is None


def test_a_journal_has_a_path(tmp_path):
    path = str(tmp_path / "journal")
    storage = _optuna.storage_of(
        optuna.create_study(storage=JournalStorage(JournalFileBackend(path)))
    )
    assert _optuna.journal_path(storage) == path
    assert _optuna.journal_path(InMemoryStorage()) is None
