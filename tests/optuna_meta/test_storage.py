"""Reading Optuna's storages: all kinds give the same tasks, and none is changed."""

import math
import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import Study
from optuna.trial import TrialState as OptunaState
from optuna.trial import create_trial

from metahpo.archive import (
    EmptySourceError,
    ReadOptions,
    SourceError,
    SourceWarning,
    UnrecognisedSourceError,
)
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, TrialState
from optuna_meta.storage import OptunaReader, read_tasks
from optuna_meta.study_task import TASK_ATTR, study_task, task_from_trials

SPACE = Space(
    {
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "layers": IntDistribution(1, 3),
        "act": CategoricalDistribution(["relu", None, 1, False]),
    }
)


def fill(study: Study) -> Study:
    """Trials that ended in every way there is, with values that grow."""
    distributions = dict(SPACE.distributions)
    for number in range(2):
        trial = study.ask(distributions)
        trial.report(number + 0.25, 1)
        trial.report(number + 0.5, 3)
        study.tell(trial, number + 1.0)
    pruned = study.ask(distributions)
    pruned.report(10.0, 5)
    pruned.report(7.0, 2)
    study.tell(pruned, state=OptunaState.PRUNED)
    study.tell(study.ask(distributions), state=OptunaState.PRUNED)
    study.tell(study.ask(distributions), state=OptunaState.FAIL)
    study.tell(study.ask(distributions), math.inf)
    study.enqueue_trial({"lr": 0.05})
    study.ask({"lr": distributions["lr"]})
    study.enqueue_trial({"lr": 0.06})
    return study


def create(storage: BaseStorage, name: str, direction: str = "maximize") -> Study:
    return optuna.create_study(
        storage=storage,
        study_name=name,
        direction=direction,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )


@pytest.fixture(params=["database", "database in memory", "memory", "journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> BaseStorage:
    match request.param:
        case "database":
            return RDBStorage(f"sqlite:///{tmp_path / 'hpo.sqlite3'}")
        case "database in memory":
            return RDBStorage("sqlite:///:memory:")
        case "journal":
            return JournalStorage(JournalFileBackend(str(tmp_path / "journal")))
    return InMemoryStorage()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "h p#.sqlite3"


@pytest.fixture
def url(path: Path) -> str:
    """A database with one study of every kind of trial."""
    fill(create(RDBStorage(f"sqlite:///{path}"), "mnist"))
    return f"sqlite:///{path}"


class TestEveryStorage:
    @pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
    def test_every_kind_of_trial_is_read_with_its_maximised_value(self, storage, direction, sign):
        study = fill(create(storage, "mnist", direction))
        (task,) = read_tasks(storage)
        assert task.name == "mnist"
        assert dict(task.space.distributions) == dict(SPACE.distributions)
        assert [trial.state for trial in task.trials] == [
            TrialState.COMPLETE,
            TrialState.COMPLETE,
            TrialState.PRUNED,
            TrialState.PRUNED,
            TrialState.FAILED,
            TrialState.FAILED,
            TrialState.RUNNING,
        ]
        values = [trial.value for trial in task.trials]
        assert values == [sign * 1.0, sign * 2.0, sign * 10.0, None, None, None, None]
        assert task.trials[1].curve == ((1, sign * 1.25), (3, sign * 1.5))
        assert task.trials[2].curve == ((2, sign * 7.0), (5, sign * 10.0))
        assert len(task.observed) == 3
        stored = study.get_trials(deepcopy=False)
        for trial, frozen in zip(task.trials, stored, strict=False):
            assert trial.configuration == frozen.params
            assert trial.started == pytest.approx(frozen.datetime_start.timestamp())
        assert task.created == task.trials[0].started
        assert task.trials[0].cost == pytest.approx(stored[0].duration.total_seconds())
        assert task.trials[-1].cost is None

    def test_a_study_in_memory_equals_what_is_read_from_its_storage(self, storage):
        study = fill(create(storage, "mnist"))
        study._storage.set_study_system_attr(study._study_id, TASK_ATTR, {"rows": 10})
        (read,) = read_tasks(storage)
        live = study_task(study)
        # To the bit, times included: trials are recognised by them.
        assert live.trials == read.trials
        assert (live.name, live.space, live.metafeatures) == (
            read.name,
            read.space,
            read.metafeatures,
        )

    def test_studies_come_in_the_order_of_creation_without_excluded_ones(self, storage):
        for name in ("b", "a", "c"):
            fill(create(storage, name))
        assert [task.name for task in read_tasks(storage)] == ["b", "a", "c"]
        assert [task.name for task in read_tasks(storage, exclude={"a"})] == ["b", "c"]

    def test_a_study_object_gives_that_study_alone(self, storage):
        studies = [fill(create(storage, name)) for name in ("a", "b", "c")]
        assert [task.name for task in read_tasks(studies[1])] == ["b"]
        assert read_tasks(studies[1]) == read_tasks(storage)[1:2]

    def test_a_warning_names_the_studies_that_are_skipped(self, storage):
        fill(create(storage, "good"))
        create(storage, "empty").ask()
        both = optuna.create_study(
            storage=storage, study_name="both", directions=["maximize", "minimize"]
        )
        both.tell(both.ask({"x": FloatDistribution(0, 1)}), [1.0, 2.0])
        expected = r"skipped 2 studies.*'empty' \(no finished trial\), 'both' \(2 objectives\)"
        with pytest.warns(SourceWarning, match=expected):
            assert [task.name for task in read_tasks(storage)] == ["good"]

    def test_the_warning_names_five_skipped_studies_at_most(self, storage):
        for number in range(8):
            create(storage, f"empty {number}")
        with pytest.warns(SourceWarning, match=r"skipped 8 studies.*'empty 4' .* and 3 more$"):
            assert read_tasks(storage) == []

    def test_an_excluded_study_is_not_in_the_warning(self, storage):
        create(storage, "current")
        assert read_tasks(storage, exclude=["current"]) == []

    @pytest.mark.parametrize(
        ("attribute", "expected"),
        [
            ({"rows": 10, "balance": 0.5}, {"rows": 10.0, "balance": 0.5}),
            ({"rows": 10, "name": "mnist", "none": None}, {"rows": 10.0}),
            ([1, 2], {}),
            (None, {}),
            ("text", {}),
            (5, {}),
            (
                {"rows": 10**400, "inf": math.inf, "nan": math.nan, "deep": [[[]]], "ok": 1},
                {"ok": 1},
            ),
        ],
    )
    def test_metafeatures_are_the_numbers_in_the_attribute(self, storage, attribute, expected):
        study = fill(create(storage, "mnist"))
        study._storage.set_study_system_attr(study._study_id, TASK_ATTR, attribute)
        assert read_tasks(storage)[0].metafeatures == expected

    def test_names_that_utf_8_cannot_encode_are_read_with_marks(self, storage):
        if isinstance(storage, RDBStorage):
            pytest.skip("SQLite takes no such name")
        fill(create(storage, "a\ud800"))
        (task,) = read_tasks(storage)
        assert task.name == "a?"
        create(storage, "b\ud800")
        with pytest.warns(SourceWarning, match=r"'b\\ud800|'b\?' \(no finished trial\)"):
            assert len(read_tasks(storage)) == 1

    def test_trials_with_bounds_that_cannot_be_searched_are_left_out(self, storage):
        study = fill(create(storage, "mnist"))
        infinite = {"free": FloatDistribution(0.0, math.inf)}
        study.add_trial(create_trial(value=1.0, params={"free": 1.0}, distributions=infinite))
        with pytest.warns(SourceWarning, match=r"'mnist' \(1 trial is broken: .*finite numbers"):
            (task,) = read_tasks(storage)
        assert len(task.trials) == 7


class TestDatabases:
    def test_reading_does_not_change_the_file(self, url, path):
        before, listing = path.read_bytes(), sorted(path.parent.iterdir())
        modified = path.stat().st_mtime_ns
        assert [task.name for task in read_tasks(url)] == ["mnist"]
        assert path.read_bytes() == before
        assert path.stat().st_mtime_ns == modified
        assert sorted(path.parent.iterdir()) == listing

    def test_a_read_only_file_is_read(self, url, path):
        path.chmod(0o400)
        assert [task.name for task in read_tasks(url)] == ["mnist"]

    def test_a_read_only_url_is_read(self, url, path):
        quoted = str(path).replace(" ", "%20").replace("#", "%23")
        (task,) = read_tasks(f"sqlite:///file:{quoted}?mode=ro&uri=true")
        assert task.trials == read_tasks(url)[0].trials

    def test_a_mistyped_url_is_an_error_and_creates_no_file(self, tmp_path):
        missing = tmp_path / "hpo.db"
        for text in (f"sqlite:///{missing}", f"sqlite:///file:{missing}?uri=true", str(missing)):
            with pytest.raises(SourceError, match=r"hpo\.db|neither a storage URL nor a file"):
                read_tasks(text)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("text", ["sqlite://", "sqlite:///:memory:"])
    def test_a_database_in_memory_is_an_error(self, text):
        with pytest.raises(SourceError, match="in memory"):
            read_tasks(text)

    @pytest.mark.parametrize(
        ("text", "why"),
        [("s3://bucket/x", "'s3' is not a database's scheme"), ("://", "not a database's")],
    )
    def test_the_url_of_something_else_is_not_recognised(self, text, why):
        with pytest.raises(UnrecognisedSourceError, match=why):
            read_tasks(text)

    def test_a_missing_driver_is_an_error_without_the_password(self):
        with pytest.raises(SourceError, match="driver for 'mysql'") as caught:
            read_tasks("mysql://user:secret@host/hpo")
        assert not isinstance(caught.value, UnrecognisedSourceError)
        assert "secret" not in str(caught.value)

    def test_a_database_without_optunas_tables_is_an_error(self, path):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE x (y)")
        connection.close()
        with pytest.raises(SourceError, match="no such table: studies"):
            read_tasks(f"sqlite:///{path}")

    def test_a_file_that_is_no_storage_is_an_error(self, path):
        path.write_text("no database")
        with pytest.raises(SourceError, match="not a database"):
            read_tasks(f"sqlite:///{path}")
        with pytest.raises(SourceError, match="neither an SQLite file nor a journal"):
            read_tasks(str(path))

    def test_a_study_whose_distributions_are_broken_is_skipped_and_named(self, url, path):
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE trial_params SET distribution_json = '{'")
        connection.close()
        expected = r"'mnist' \(no finished trial, 7 trials are broken: '\w+': not the JSON"
        with pytest.warns(SourceWarning, match=expected):
            assert read_tasks(url) == []

    def test_distributions_of_former_optuna_versions_are_read(self, url, path):
        former = '{"name": "LogUniformDistribution", "attributes": {"low": 0.0001, "high": 0.1}}'
        with sqlite3.connect(path) as connection:
            connection.execute(
                "UPDATE trial_params SET distribution_json = ? WHERE param_name = 'lr'", (former,)
            )
        connection.close()
        assert read_tasks(url)[0].space.distributions["lr"] == SPACE.distributions["lr"]

    def test_a_study_is_read_while_another_process_writes(self, url):
        study = optuna.load_study(study_name="mnist", storage=url)
        trial = study.ask()
        trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        before = len(read_tasks(url)[0].observed)
        study.tell(trial, 1.0)
        assert len(read_tasks(url)[0].observed) == before + 1


class TestFiles:
    def test_the_path_of_a_database_is_read_like_its_url(self, url, path):
        assert read_tasks(str(path)) == read_tasks(url)
        assert OptunaReader().read(str(path), ReadOptions()) == read_tasks(url)
        renamed = path.rename(path.with_name("which?%41"))
        assert [task.name for task in read_tasks(str(renamed))] == ["mnist"]

    def test_the_path_of_a_journal_is_read_and_not_changed(self, tmp_path):
        path = tmp_path / "journal"
        fill(create(JournalStorage(JournalFileBackend(str(path))), "mnist"))
        before = path.read_bytes()
        assert [task.name for task in read_tasks(str(path))] == ["mnist"]
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_a_folder_is_not_recognised(self, tmp_path):
        with pytest.raises(UnrecognisedSourceError, match="neither a storage URL nor a file"):
            read_tasks(str(tmp_path))


class TestReader:
    def test_a_storage_without_tasks_is_an_error_that_names_it(self, tmp_path):
        url = f"sqlite:///{tmp_path / 'hpo.db'}"
        study = create(RDBStorage(url), "begun")
        for source, name in ((url, "hpo.db"), (study, "study 'begun'")):
            with (
                pytest.raises(EmptySourceError, match=f"{name}.*with one objective and a finish"),
                pytest.warns(SourceWarning, match="begun"),
            ):
                OptunaReader().read(source, ReadOptions())


def lowest(distribution: BaseDistribution) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    return distribution.low


def requesting(*distributions: BaseDistribution) -> Task:
    """The task of a study whose trials requested one hyperparameter in different ranges."""
    trials = [
        create_trial(
            params={"x": lowest(distribution)},
            distributions={"x": distribution},
            value=0.0,
        )
        for distribution in distributions
    ]
    return task_from_trials("t", trials, optuna.study.StudyDirection.MAXIMIZE)


class TestDynamicRanges:
    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [
            (FloatDistribution(0, 2), FloatDistribution(1, 3), FloatDistribution(0, 3)),
            (
                FloatDistribution(0, 1, step=0.25),
                FloatDistribution(0.5, 2, step=0.25),
                FloatDistribution(0, 2, step=0.25),
            ),
            (
                FloatDistribution(0, 2, step=0.5),
                FloatDistribution(0.25, 1.25, step=0.5),
                FloatDistribution(0, 2),
            ),
            (IntDistribution(1, 9, step=4), IntDistribution(3, 5), IntDistribution(1, 9)),
            (
                IntDistribution(1, 9, step=4),
                IntDistribution(3, 7, step=4),
                IntDistribution(1, 9, step=2),
            ),
            (
                FloatDistribution(1, 2, log=True),
                FloatDistribution(1, 4, log=True),
                FloatDistribution(1, 4, log=True),
            ),
            (FloatDistribution(1, 9, log=True), FloatDistribution(1, 4), FloatDistribution(1, 4)),
            (
                CategoricalDistribution([1, 2]),
                CategoricalDistribution([1, 3]),
                CategoricalDistribution([1, 3]),
            ),
        ],
    )
    def test_ranges_are_joined_and_kinds_are_the_latest(self, first, second, expected):
        task = requesting(first, second)
        assert task.space.distributions["x"] == expected


class TestTrialsInMemory:
    def test_a_given_space_is_kept(self):
        task = task_from_trials("t", [], optuna.study.StudyDirection.MAXIMIZE, space=SPACE)
        assert task.space is SPACE
        assert task.created is None

    def test_a_trial_with_the_value_nan_has_failed(self):
        trial = create_trial(value=1.0)
        trial.value = math.nan
        task = task_from_trials("t", [trial], optuna.study.StudyDirection.MAXIMIZE)
        assert task.trials[0].state is TrialState.FAILED
        assert task.trials[0].value is None

    def test_a_pruned_trial_whose_last_report_is_nan_has_failed(self):
        trial = create_trial(
            state=OptunaState.PRUNED, intermediate_values={1: 0.5, 2: math.nan}, value=0.5
        )
        task = task_from_trials("t", [trial], optuna.study.StudyDirection.MINIMIZE)
        assert task.trials[0].state is TrialState.FAILED
        assert task.trials[0].value is None
        assert task.trials[0].curve[0] == (1, -0.5)
