"""Where MetaSampler finds past studies, and what it never takes for one."""

import pickle
import shutil
from pathlib import Path

import optuna
import pytest

import optuna_meta.history
from metahpo import Archive, Space, Task, Trial
from optuna_meta import MetaSampler
from optuna_meta.history import History

X = optuna.distributions.FloatDistribution(-1, 1)


def task(name: str) -> Task:
    return Task(name, Space({"x": X}), tuple(Trial({"x": x / 4}, -abs(x)) for x in range(-4, 5)))


def square(trial) -> float:
    return trial.suggest_float("x", -1, 1) ** 2


def add_study(storage, name: str, n_trials: int = 3) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler(seed=len(name))
    study = optuna.create_study(storage=storage, study_name=name, sampler=sampler)
    study.optimize(square, n_trials=n_trials)
    return study


def names(history, study=None) -> list[str]:
    study = optuna.create_study() if study is None else study
    return sorted(task.name for task in History(history).tasks(study))


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("history") / "hpo.db"
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    for name in ("one", "two"):
        add_study(storage, name)
    return path


@pytest.fixture
def url(database, tmp_path) -> str:
    return f"sqlite:///{shutil.copy(database, tmp_path / 'hpo.db')}"


# ---- the kinds of history ------------------------------------------------------------------


def test_by_default_the_other_studies_of_the_storage(url):
    study = add_study(url, "three")
    assert names(None, study) == ["one", "two"]
    assert names(None, optuna.create_study(storage=url)) == ["one", "three", "two"]


def test_a_storage_its_url_and_its_studies(url):
    storage = optuna.storages.RDBStorage(url)
    one = optuna.load_study(study_name="one", storage=storage)
    assert names(url) == ["one", "two"]
    assert names(storage) == ["one", "two"]
    assert names(one) == ["one"]
    assert names([one, task("t")]) == ["one", "t"]


def test_an_archive_its_path_and_tasks(tmp_path):
    archive = Archive(str(tmp_path / "archive"))
    archive.add(task("kept"))
    for history in (archive, tmp_path / "archive", str(tmp_path / "archive")):
        assert names(history) == ["kept"]
    assert names(f"file://{tmp_path}/archive") == ["kept"]
    assert names(task("t")) == ["t"]
    assert names(task(name) for name in "ab") == ["a", "b"]


def test_a_mixed_list(url, tmp_path):
    archive = Archive(tmp_path / "archive")
    archive.add(task("kept"))
    in_memory = add_study(None, "local")
    assert names([url, archive, in_memory, task("t")]) == ["kept", "local", "one", "t", "two"]


@pytest.mark.parametrize("history", [[], (), [[]]])
def test_an_empty_history_is_plain(history):
    study = optuna.create_study(sampler=MetaSampler(history=history, seed=0))
    study.optimize(square, n_trials=3)
    assert len(study.trials) == 3


# ---- what cannot be read -------------------------------------------------------------------


@pytest.mark.parametrize("history", [5, b"bytes", {"a": task("a")}, [task("t"), 1.0], object()])
def test_a_history_of_the_wrong_type(history):
    with pytest.raises(TypeError, match="history must be the URL or file of a storage"):
        MetaSampler(history=history)


@pytest.mark.parametrize(
    "history", ["nowhere/", Path("nowhere"), "file:///nowhere/at/all", "sqlite:///nowhere.db", ""]
)
def test_a_history_that_is_not_there(history, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"nowhere|empty"):
        optuna.create_study(sampler=MetaSampler(history=history)).optimize(square, n_trials=1)
    assert list(tmp_path.iterdir()) == []


def test_a_scheme_that_nobody_knows():
    with pytest.raises(ValueError, match="nosuch"):
        MetaSampler(history="nosuch://bucket/archive")


# ---- reading -------------------------------------------------------------------------------


def test_history_is_read_once_a_study(url, monkeypatch):
    reads = []
    read_tasks = optuna_meta.history.read_tasks
    monkeypatch.setattr(
        optuna_meta.history,
        "read_tasks",
        lambda *args, **options: reads.append(args) or read_tasks(*args, **options),
    )
    sampler = MetaSampler(seed=0)
    study = optuna.create_study(storage=url, sampler=sampler)
    assert reads == []
    study.optimize(square, n_trials=3)
    assert len(reads) == 1
    optuna.create_study(storage=url, sampler=sampler).optimize(square, n_trials=2)
    assert len(reads) == 2


def test_what_was_read_does_not_travel(url):
    history = History(url)
    study = optuna.create_study()
    before = pickle.dumps(history)
    assert len(history.tasks(study)) == 2
    assert pickle.dumps(history) == before
    assert len(pickle.loads(before).tasks(study)) == 2


# ---- a study is never its own history ------------------------------------------------------


def test_a_study_given_as_its_own_history(url):
    one = optuna.load_study(study_name="one", storage=url)
    again = optuna.load_study(study_name="one", storage=url)
    assert names(url, one) == ["two"]
    assert names(again, one) == []
    assert names([one, url], one) == ["two"]


def test_a_study_that_was_archived_or_copied(url, tmp_path):
    one = optuna.load_study(study_name="one", storage=url)
    archive = Archive(tmp_path / "archive")
    archive.extend(optuna_meta.history.read_tasks(url))
    assert names(archive, one) == ["two"]

    copied = f"sqlite:///{tmp_path}/copy.db"
    optuna.copy_study(from_study_name="one", from_storage=url, to_storage=copied)
    add_study(copied, "other")
    assert names(copied, one) == ["other"]


def test_a_study_that_comes_twice_counts_once(url, tmp_path):
    archive = Archive(tmp_path / "archive")
    archive.extend(optuna_meta.history.read_tasks(url))
    assert names([url, archive]) == ["one", "two"]


def test_another_study_of_the_same_name_is_history(url):
    namesake = add_study(None, "one")
    assert names(url, namesake) == ["one", "two"]
