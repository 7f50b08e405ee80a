"""Optuna's histories: every kind of storage tells the same, and none is touched."""

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

from metahpo.archive import SourceError, SourceWarning
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, TrialState
from optuna_meta.storage import (
    TASK_ATTR,
    read_source,
    read_tasks,
    study_task,
    task_from_trials,
)

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
    def test_trials(self, storage, direction, sign):
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

    def test_a_live_study_is_told_the_same(self, storage):
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

    def test_studies(self, storage):
        for name in ("b", "a", "c"):
            fill(create(storage, name))
        assert [task.name for task in read_tasks(storage)] == ["b", "a", "c"]
        assert [task.name for task in read_tasks(storage, exclude={"a"})] == ["b", "c"]

    def test_a_study_among_others(self, storage):
        studies = [fill(create(storage, name)) for name in ("a", "b", "c")]
        assert [task.name for task in read_tasks(studies[1])] == ["b"]
        assert read_tasks(studies[1]) == read_tasks(storage)[1:2]
        assert [task.name for task in read_tasks([studies[2], studies[0]])] == ["c", "a"]

    def test_studies_that_tell_nothing_are_named(self, storage):
        fill(create(storage, "good"))
        create(storage, "empty").ask()
        both = optuna.create_study(
            storage=storage, study_name="both", directions=["maximize", "minimize"]
        )
        both.tell(both.ask({"x": FloatDistribution(0, 1)}), [1.0, 2.0])
        expected = r"skipped 2 studies.*'empty' \(no finished trial\), 'both' \(2 objectives\)"
        with pytest.warns(SourceWarning, match=expected):
            assert [task.name for task in read_tasks(storage)] == ["good"]

    def test_a_long_list_of_those_is_cut(self, storage):
        for number in range(8):
            create(storage, f"empty {number}")
        with pytest.warns(SourceWarning, match=r"skipped 8 studies.*'empty 4' .* and 3 more$"):
            assert read_tasks(storage) == []

    def test_an_excluded_study_is_not_named(self, storage):
        create(storage, "current")
        assert read_tasks(storage, exclude=["current"]) == []

    @pytest.mark.parametrize(
        ("attribute", "expected"),
        [
            ({"rows": 10, "balance": 0.5}, {"rows": 10.0, "balance": 0.5}),
            ({"rows": 10, "name": "mnist", "none": None}, {"rows": 10.0}),
            ([1, 2], {}),
            (None, {}),
        ],
    )
    def test_metafeatures(self, storage, attribute, expected):
        study = fill(create(storage, "mnist"))
        study._storage.set_study_system_attr(study._study_id, TASK_ATTR, attribute)
        assert read_tasks(storage)[0].metafeatures == expected


class TestDatabases:
    def test_the_file_is_not_touched(self, url, path):
        before, listing = path.read_bytes(), sorted(path.parent.iterdir())
        modified = path.stat().st_mtime_ns
        assert [task.name for task in read_tasks(url)] == ["mnist"]
        assert path.read_bytes() == before
        assert path.stat().st_mtime_ns == modified
        assert sorted(path.parent.iterdir()) == listing

    def test_a_file_that_may_not_be_written(self, url, path):
        path.chmod(0o400)
        assert [task.name for task in read_tasks(url)] == ["mnist"]

    def test_a_url_that_is_read_only_already(self, url, path):
        quoted = str(path).replace(" ", "%20").replace("#", "%23")
        (task,) = read_tasks(f"sqlite:///file:{quoted}?mode=ro&uri=true")
        assert task.trials == read_tasks(url)[0].trials

    def test_a_mistyped_url_creates_nothing(self, tmp_path):
        missing = tmp_path / "hpo.db"
        for text in (f"sqlite:///{missing}", f"sqlite:///file:{missing}?uri=true", str(missing)):
            with pytest.raises(SourceError, match=r"hpo\.db"):
                read_tasks(text)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("text", ["sqlite://", "sqlite:///:memory:"])
    def test_a_database_in_memory_has_no_history(self, text):
        with pytest.raises(SourceError, match="in memory"):
            read_tasks(text)

    @pytest.mark.parametrize(
        ("text", "why"),
        [("s3://bucket/x", "'s3' is not the scheme"), ("://", "not the scheme")],
    )
    def test_no_database(self, text, why):
        with pytest.raises(SourceError, match=why) as caught:
            read_tasks(text)
        assert not caught.value.recognised

    def test_a_driver_that_is_not_installed(self):
        with pytest.raises(SourceError, match="driver for 'mysql'") as caught:
            read_tasks("mysql://user:secret@host/hpo")
        assert caught.value.recognised
        assert "secret" not in str(caught.value)

    def test_a_database_of_something_else(self, path):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE x (y)")
        connection.close()
        with pytest.raises(SourceError, match="no such table: studies"):
            read_tasks(f"sqlite:///{path}")

    def test_a_file_of_something_else(self, path):
        path.write_text("no database")
        with pytest.raises(SourceError, match="not a database"):
            read_tasks(f"sqlite:///{path}")
        with pytest.raises(SourceError, match="neither an SQLite file nor a journal"):
            read_tasks(str(path))

    def test_a_broken_distribution(self, url, path):
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE trial_params SET distribution_json = '{'")
        connection.close()
        with pytest.raises(SourceError, match="not the JSON text of a distribution"):
            read_tasks(url)

    def test_distributions_that_former_versions_wrote(self, url, path):
        former = '{"name": "LogUniformDistribution", "attributes": {"low": 0.0001, "high": 0.1}}'
        with sqlite3.connect(path) as connection:
            connection.execute(
                "UPDATE trial_params SET distribution_json = ? WHERE param_name = 'lr'", (former,)
            )
        connection.close()
        assert read_tasks(url)[0].space.distributions["lr"] == SPACE.distributions["lr"]

    def test_reading_while_another_writes(self, url):
        study = optuna.load_study(study_name="mnist", storage=url)
        trial = study.ask()
        trial.suggest_float("lr", 1e-4, 1e-1, log=True)
        before = len(read_tasks(url)[0].observed)
        study.tell(trial, 1.0)
        assert len(read_tasks(url)[0].observed) == before + 1


class TestFiles:
    def test_the_path_of_a_database(self, url, path):
        assert read_tasks(str(path)) == read_tasks(url)
        assert read_source(str(path), metric=None, mode=None) == read_tasks(url)
        renamed = path.rename(path.with_name("which?%41"))
        assert [task.name for task in read_tasks(str(renamed))] == ["mnist"]

    def test_the_path_of_a_journal(self, tmp_path):
        path = tmp_path / "journal"
        fill(create(JournalStorage(JournalFileBackend(str(path))), "mnist"))
        before = path.read_bytes()
        assert [task.name for task in read_tasks(str(path))] == ["mnist"]
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_a_folder(self, tmp_path):
        with pytest.raises(SourceError, match="neither a storage URL nor a file"):
            read_tasks(str(tmp_path))


def lowest(distribution: BaseDistribution) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    return distribution.low


def told(*asked: BaseDistribution) -> Task:
    """The task of a study whose trials asked for one hyperparameter in different ranges."""
    trials = [
        create_trial(
            params={"x": lowest(distribution)},
            distributions={"x": distribution},
            value=0.0,
        )
        for distribution in asked
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
    def test_the_widest_or_the_latest(self, first, second, expected):
        task = told(first, second)
        assert task.space.distributions["x"] == expected


class TestLiveTrials:
    def test_a_known_space_is_taken_as_it_is(self):
        task = task_from_trials("t", [], optuna.study.StudyDirection.MAXIMIZE, space=SPACE)
        assert task.space is SPACE
        assert task.created is None

    def test_nan_is_a_failure(self):
        trial = create_trial(value=1.0)
        trial.value = math.nan
        task = task_from_trials("t", [trial], optuna.study.StudyDirection.MAXIMIZE)
        assert task.trials[0].state is TrialState.FAILED
        assert task.trials[0].value is None

    def test_a_pruned_trial_whose_last_report_is_nan_is_a_failure(self):
        trial = create_trial(
            state=OptunaState.PRUNED, intermediate_values={1: 0.5, 2: math.nan}, value=0.5
        )
        task = task_from_trials("t", [trial], optuna.study.StudyDirection.MINIMIZE)
        assert task.trials[0].state is TrialState.FAILED
        assert task.trials[0].value is None
        assert task.trials[0].curve[0] == (1, -0.5)
