"""The one door for histories: what it takes, what it refuses, and the contract of readers."""

import re
import uuid
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution
from support.ray_folders import params, write_trial

from metahpo import Archive, Space, Task, Trial
from metahpo.archive import (
    ArchiveError,
    ArchiveWarning,
    EmptySourceError,
    ReadOptions,
    SourceError,
    UnrecognisedSourceError,
    sources,
)
from metahpo.archive.errors import SourceWarning
from metahpo.archive.shown import without_passwords
from metahpo.archive.sources import checked_sources, read_history, without_copies

SPACE = Space({"x": FloatDistribution(0, 1)})


def task(name: str, started: float | None = None) -> Task:
    return Task(name, SPACE, (Trial({"x": 0.5}, 1.0, started=started),))


@pytest.fixture
def archive(tmp_path) -> Archive:
    archive = Archive(tmp_path / "archive")
    archive.add(task("kept"))
    return archive


def names(history, options=ReadOptions()) -> list[str]:  # noqa: B008 - frozen
    return [task.name for task in read_history(history, options)]


# ---- what is read --------------------------------------------------------------------------


def test_nested_sources_are_read_in_their_order(archive):
    generator = (task(name) for name in "bc")
    history = [task("a"), [generator, (archive.path,)], archive, task("d")]
    assert names(history) == ["a", "b", "c", "kept", "kept", "d"]


def test_a_list_without_sources_has_no_tasks():
    assert names([]) == names([(), []]) == []


def test_a_ray_experiment_is_read_with_the_metric_and_mode(tmp_path):
    for number in (1, 2):
        write_trial(tmp_path / "run", number, params(number), [0.1 * number])
    (read,) = read_history(tmp_path / "run", ReadOptions("eval/acc", "min"))
    assert [trial.value for trial in read.trials] == pytest.approx([-0.1, -0.2])
    with pytest.raises(SourceError, match="requires a metric"):
        read_history(tmp_path / "run")


# ---- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize("history", [None, 5, 0.5, b"x", {"a": 1}, object(), [[1]]])
def test_an_object_that_no_reader_accepts_is_a_type_error(history):
    accepted = r"an Archive or .*Optuna storage.*Ray Tune experiment.*a Task, or a list of these"
    with pytest.raises(TypeError, match=f"history must be {accepted}, got"):
        checked_sources(history)


@pytest.mark.parametrize("history", ["", [""]])
def test_an_empty_string_is_a_value_error(history):
    with pytest.raises(ValueError, match="empty string"):
        checked_sources(history)


def test_checking_sources_opens_none():
    assert checked_sources(["nowhere/", "sqlite:///nowhere.db"]) == (
        "nowhere/",
        "sqlite:///nowhere.db",
    )


def test_a_path_to_nothing_is_an_error_that_says_what_was_looked_for(tmp_path):
    path = tmp_path / "nowhere"
    with pytest.raises(SourceError) as caught:
        read_history(path)
    assert str(caught.value) == (
        f"no past tasks found in {str(path)!r} (archive: there is no archive at {path}; "
        "optuna: neither a storage URL nor a file; "
        f"ray: {path} is not the folder of a Ray Tune experiment with trials)"
    )


def test_an_empty_folder_is_an_error_that_says_what_was_looked_for(tmp_path):
    with pytest.raises(SourceError, match=f"no Parquet files in {tmp_path}.*optuna: .*ray: "):
        read_history(tmp_path)


def test_an_archive_whose_files_were_all_skipped_is_an_error(archive, tmp_path):
    for path in (tmp_path / "archive").iterdir():
        path.write_bytes(b"broken")
    for history in (archive, archive.path):
        with (
            pytest.warns(ArchiveWarning, match="skipped"),
            pytest.raises(SourceError, match=r"none of the 1 Parquet files in .*archive is"),
        ):
            read_history(history)


def test_an_archive_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(SourceError, match=r"Archive\(.*there is no archive at .*nowhere"):
        read_history(Archive(tmp_path / "nowhere"))


# ---- passwords -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "nosuch://user:secret@host/db",
        "nosuch://user:sec/ret@secret@host",
        "nosuch://host/db?user=me&password=secret",
        "mysql://user:secret@host/hpo",
        "://user:secret@host",
    ],
)
def test_the_error_about_a_url_hides_its_password(url):
    with pytest.raises(SourceError) as caught:
        read_history(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", [SourceError, EmptySourceError, ArchiveError, SourceWarning])
def test_errors_and_warnings_are_one_line_without_passwords(kind):
    assert str(kind("a://u:pw@h failed:\nbadly")) == "a://u:***@h failed: badly"


@pytest.mark.parametrize(
    "text", ["s3://bucket/a:b@c", "sqlite:////tmp/a@b.db", "mysql://user@host/db", "a:b@c"]
)
def test_texts_without_passwords_stay(text):
    assert without_passwords(text) == text


def test_an_archive_shows_itself_without_its_password():
    assert "secret" not in repr(Archive(f"memory://user:secret@{uuid.uuid4().hex}"))


# ---- readers -------------------------------------------------------------------------------


class _Log:
    """A source of some other tool."""

    def __init__(self, *values: float) -> None:
        self.values = values


class LogReader:
    types = (_Log,)
    accepts = "a Log"
    looks_for = "values"

    def read(self, source: _Log, options: ReadOptions) -> list[Task]:
        if -1.0 in source.values:
            raise UnrecognisedSourceError("a Log without metadata")
        return [Task(f"{value}", SPACE) for value in source.values]


@pytest.fixture
def readers(monkeypatch):
    """The readers that are registered, and two others."""
    here = EntryPoint("log", f"{__name__}:LogReader", sources.READERS)
    missing = EntryPoint("missing", "no.such.module:Reader", sources.READERS)
    found = [*sources.entry_points(group=sources.READERS), missing]
    monkeypatch.setattr(sources, "entry_points", lambda group: found)
    monkeypatch.setattr(EntryPoint, "load", _load_or(here, EntryPoint.load))
    found.append(here)
    sources.loaded_readers.cache_clear()
    yield
    sources.loaded_readers.cache_clear()


def _load_or(here, load):
    return lambda entry: LogReader if entry is here else load(entry)


@pytest.mark.usefixtures("readers")
def test_a_registered_reader_is_used_for_its_types():
    assert names([_Log(1.0, 2.0), task("a")]) == ["1.0", "2.0", "a"]


@pytest.mark.usefixtures("readers")
def test_a_reader_without_tasks_and_one_that_does_not_recognise_are_errors():
    with pytest.raises(EmptySourceError, match="holds no past task: it lacks values"):
        read_history(_Log())
    with pytest.raises(SourceError, match="log: a Log without metadata"):
        read_history(_Log(-1.0))


@pytest.mark.usefixtures("readers")
def test_a_reader_that_cannot_be_imported_is_named_where_nothing_else_reads(archive, tmp_path):
    assert names(archive.path) == ["kept"]
    with pytest.raises(SourceError, match=r"missing: not installed \(No module named 'no'\)"):
        read_history(tmp_path / "nowhere")


def test_the_reader_in_the_documentation_reads_its_source(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
    example: dict = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], example)
    path = tmp_path / "old.csv"
    path.write_text("x,score\n0.1,5\n0.2,6\n")
    reader = example["CsvReader"]()
    (read,) = reader.read(str(path), ReadOptions(mode="min"))
    assert [(t.configuration, t.value) for t in read.trials] == [
        ({"x": 0.1}, -5),
        ({"x": 0.2}, -6),
    ]
    with pytest.raises(UnrecognisedSourceError):
        reader.read(str(tmp_path), ReadOptions(mode="min"))


# ---- copies --------------------------------------------------------------------------------


def test_tasks_that_share_a_trial_count_once():
    first, copy, other = task("first", 1.0), task("copy", 1.0), task("other", 2.0)
    assert without_copies([first, copy, other]) == [first, other]
    assert without_copies([first, other], of=copy) == [other]


def test_tasks_without_times_are_never_copies():
    assert len(without_copies([task("a"), task("a")])) == 2


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hidden@host/db",
        "postgresql+psycopg2://host/db?user=me&password=hidden",
        "s3://bucket/a?X-Amz-Signature=hidden&X-Amz-Credential=hidden",
        "https://host/a?sig=hidden",
    ],
)
def test_no_secret_of_a_url_is_shown(url):
    assert "hidden" not in without_passwords(url)


def test_a_server_that_cannot_be_reached_is_a_source_error_that_names_it():
    with pytest.raises(SourceError, match="ftp://user") as caught:
        read_history("ftp://user:hidden@127.0.0.1:1/x")
    assert "hidden" not in str(caught.value)
