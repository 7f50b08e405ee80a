"""Where MetaSampler finds past studies, and what it never takes for one."""

import pickle
import shutil
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalStorage
from support.ray_folders import params, write_trial

from metahpo import Archive, Space, Task, Trial
from metahpo.archive import EmptySourceError, SourceError, SourceWarning
from optuna_meta import MetaSampler, storage, study_history
from optuna_meta.storage import read_tasks
from optuna_meta.study_history import StudyHistory

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
    return sorted(task.name for task in StudyHistory(history).tasks(study))


def run(history, **arguments) -> optuna.Study:
    study = optuna.create_study(sampler=MetaSampler(history=history, seed=0), **arguments)
    study.optimize(square, n_trials=2)
    return study


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


# ---- kinds of history ----------------------------------------------------------------------


def test_the_default_is_the_other_studies_of_the_storage(url):
    study = add_study(url, "three")
    assert names(None, study) == ["one", "two"]
    assert names(None, optuna.create_study(storage=url)) == ["one", "three", "two"]


def test_a_storage_its_url_its_file_and_its_studies_are_history(url):
    storage = optuna.storages.RDBStorage(url)
    one = optuna.load_study(study_name="one", storage=storage)
    assert names(url) == ["one", "two"]
    assert names(Path(url.removeprefix("sqlite:///"))) == ["one", "two"]
    assert names(storage) == ["one", "two"]
    assert names(one) == ["one"]
    assert names([one, task("t")]) == ["one", "t"]


def test_an_archive_its_path_its_url_and_tasks_are_history(tmp_path):
    archive = Archive(str(tmp_path / "archive"))
    archive.add(task("kept"))
    for history in (archive, tmp_path / "archive", str(tmp_path / "archive")):
        assert names(history) == ["kept"]
    assert names(f"file://{tmp_path}/archive") == ["kept"]
    assert names(task("t")) == ["t"]
    assert names(task(name) for name in "ab") == ["a", "b"]


def test_nested_lists_of_every_kind_are_history(url, tmp_path):
    archive = Archive(tmp_path / "archive")
    archive.add(task("kept"))
    in_memory = add_study(None, "local")
    everything = [url, [archive, (in_memory,)], task("t")]
    assert names(everything) == ["kept", "local", "one", "t", "two"]


@pytest.mark.parametrize("history", [[], (), [[]]])
def test_an_empty_list_is_no_history_and_no_error(history):
    assert len(run(history).trials) == 2


# ---- the study's own storage ---------------------------------------------------------------


@pytest.mark.parametrize("form", ["{url}", "{path}", "{folder}/../{folder_name}/new.db"])
def test_the_first_study_of_a_new_database_may_name_it_as_its_history(tmp_path, form):
    url = f"sqlite:///{tmp_path}/new.db"
    optuna.create_study(storage=url, study_name="first")
    history = form.format(
        url=url, path=tmp_path / "new.db", folder=tmp_path, folder_name=tmp_path.name
    )
    assert len(run(history, storage=url, study_name="first", load_if_exists=True).trials) == 2


def test_the_first_study_of_a_new_journal_may_name_it_as_its_history(tmp_path):
    path = str(tmp_path / "journal")
    assert run(path, storage=JournalStorage(JournalFileBackend(path))).trials


def test_a_study_may_be_its_own_and_only_history():
    study = optuna.create_study()
    study.sampler = MetaSampler(history=study, seed=0)
    study.optimize(square, n_trials=2)
    assert len(study.trials) == 2


def test_another_database_that_is_still_empty_is_an_error_that_names_it(tmp_path):
    url = f"sqlite:///{tmp_path}/new.db"
    optuna.create_study(storage=url, study_name="begun")
    with (
        pytest.raises(EmptySourceError, match=r"new\.db holds no past task: it lacks an"),
        pytest.warns(SourceWarning, match="'begun' \\(no finished trial\\)"),
    ):
        run(url)


# ---- what cannot be read -------------------------------------------------------------------


@pytest.mark.parametrize("history", [5, b"bytes", {"a": task("a")}, [task("t"), 1.0], object()])
def test_a_history_of_the_wrong_type_is_an_error_at_construction(history):
    with pytest.raises(TypeError, match=r"history must be .*the URL or file of an Optuna"):
        MetaSampler(history=history)


def test_an_empty_string_is_an_error_at_construction():
    with pytest.raises(ValueError, match="empty string"):
        MetaSampler(history="")


@pytest.mark.parametrize(
    "history",
    [
        "nowhere/",
        Path("nowhere"),
        "file:///nowhere/at/all",
        "sqlite:///nowhere.db",
        "nowhere://bucket/archive",
        Archive("nowhere"),
    ],
)
def test_a_history_that_does_not_exist_is_an_error_that_names_it(history, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="nowhere"):
        run(history)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_archive_is_an_error_that_says_what_was_looked_for(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(SourceError) as caught:
        run(tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "\n" not in message
    for reader in ("archive: ", "optuna: ", "ray: "):
        assert reader in message


def test_a_ray_experiment_is_an_error_that_says_how_to_use_it(tmp_path):
    for number in (1, 2):
        write_trial(tmp_path / "run", number, params(number), [0.1])
    with pytest.raises(SourceError, match=r"requires a metric.*`metahpo collect`"):
        run(tmp_path / "run")


# ---- reading -------------------------------------------------------------------------------


def test_the_history_is_read_once_per_study(url, monkeypatch):
    reads = []

    def count(*arguments, **options):
        reads.append(arguments)
        return read_tasks(*arguments, **options)

    for module in (storage, study_history):
        monkeypatch.setattr(module, "read_tasks", count)
    sampler = MetaSampler(seed=0)
    study = optuna.create_study(storage=url, sampler=sampler)
    assert reads == []
    study.optimize(square, n_trials=3)
    assert len(reads) == 1
    optuna.create_study(storage=url, sampler=sampler).optimize(square, n_trials=2)
    assert len(reads) == 2


def test_pickling_leaves_out_what_was_read(url):
    history = StudyHistory(url)
    study = optuna.create_study()
    before = pickle.dumps(history)
    assert len(history.tasks(study)) == 2
    assert pickle.dumps(history) == before
    assert len(pickle.loads(before).tasks(study)) == 2


# ---- a study is never its own history ------------------------------------------------------


def test_a_study_is_left_out_of_its_own_history(url):
    one = optuna.load_study(study_name="one", storage=url)
    again = optuna.load_study(study_name="one", storage=url)
    assert names(url, one) == ["two"]
    assert names(again, one) == []
    assert names([one, url], one) == ["two"]


def test_archived_and_copied_forms_of_the_study_are_left_out(url, tmp_path):
    one = optuna.load_study(study_name="one", storage=url)
    archive = Archive(tmp_path / "archive")
    archive.extend(read_tasks(url))
    assert names(archive, one) == ["two"]

    copied = f"sqlite:///{tmp_path}/copy.db"
    optuna.copy_study(from_study_name="one", from_storage=url, to_storage=copied)
    add_study(copied, "other")
    assert names(copied, one) == ["other"]


def test_a_study_that_is_named_twice_counts_once(url, tmp_path):
    archive = Archive(tmp_path / "archive")
    archive.extend(read_tasks(url))
    assert names([url, archive]) == ["one", "two"]


def test_another_study_of_the_same_name_is_history(url):
    namesake = add_study(None, "one")
    assert names(url, namesake) == ["one", "two"]


@pytest.mark.parametrize("source", ["~nosuchuser/x", "a\0b", "sqlite:///a\0b"])
def test_a_source_that_is_no_path_is_an_error_of_its_own_with_a_stored_study(url, source):
    with pytest.raises(SourceError):
        StudyHistory(source).tasks(add_study(url, "new", n_trials=0))
