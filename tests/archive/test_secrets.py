"""No secret of a source goes anywhere: not into errors, warnings, logs, files or explanations."""

import logging
import traceback
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution

from metahpo import Archive, Space, Task, Trial, cli
from metahpo.archive import ReadOptions, SourceError
from metahpo.archive.errors import ArchiveError, SourceWarning
from metahpo.archive.shown import (
    holds_secrets,
    message_of,
    printable,
    reason_of,
    shown_source,
    without_passwords,
)
from metahpo.archive.sources import read_history
from optuna_meta import MetaSampler, explain
from optuna_meta.storage import read_tasks
from raytune_meta import read_experiment

SECRET = "hunter2x"
# Whatever stands for the secret, in every place of a URL and spelt in many ways.
SHAPES = [
    "postgresql://user:{}@127.0.0.1:1/db",
    "postgres://user:{}@127.0.0.1:1/db",
    " postgresql://user:{}@127.0.0.1:1/db",
    "postgresql+psycopg2://127.0.0.1:1/db?user=u&password={}",
    "postgresql://127.0.0.1:1/db?sslpassword={}",
    "postgresql:/user:{}@127.0.0.1/db",
    "postgresql//user:{}@127.0.0.1/db",
    "postgresql:user:{}@127.0.0.1/db",
    "postgresql:\\\\user:{}@127.0.0.1/db",
    "mysql://user:{}@127.0.0.1:1/db",
    "mysql+nosuch://user:{}@127.0.0.1:1/db",
    "redis://:{}@127.0.0.1:1/0",
    "sqlite:///nowhere.db?key={}",
    "sqlite:///nowhere.db?timeout=x&password={}",
    "nosuch://user:{}@host/x",
    "ftp://user:{}@127.0.0.1:1/x",
    "ftp://user:{}@127.0.0.1:port/x",
    "sftp://user:{}@127.0.0.1:1/x",
    "http://user:{}@127.0.0.1:1/x",
    "simplecache::http://user:{}@127.0.0.1:1/x",
    "filecache::ftp://user:{}@127.0.0.1:1/x",
    "zip://x::http://user:{}@127.0.0.1:1/x.zip",
    "s3://key:{}@bucket/x",
    "https://127.0.0.1:1/x?X-Amz-Credential=a&X-Amz-Signature={}",
    "https://127.0.0.1:1/x?sig={}",
    "https://127.0.0.1:1/x?access_token={}&a=b",
    "https://127.0.0.1:1/x#token={}",
    "https://{0}{0}{0}@127.0.0.1:1/x",
    "abfs://c@a.dfs.core.windows.net/x?sv=1&sig={}",
    "mssql://127.0.0.1:1/?odbc_connect=DRIVER%3DX%3BPWD%3D{}",
    "://user:{}@host",
]
# As people's passwords are, escaped and not.
PASSWORDS = [SECRET, f"{SECRET}:1", f"p@ss/{SECRET}", f"p%40ss%2F{SECRET}", f"{SECRET}@{SECRET}",
             f"a b {SECRET}", f"'{SECRET}\"", f"[{SECRET}]", f"{SECRET}\n{SECRET}"]  # fmt: skip
SIMPLE = [shape.format(SECRET) for shape in SHAPES]
# Options end at a blank; a password that holds one must be escaped there.
ODD = [shape.format(password) for shape in SHAPES if ":{}@" in shape for password in PASSWORDS[1:]]


def read_as_history(url: str) -> None:
    read_history(url, ReadOptions("loss", "min"))


def read_as_experiment(url: str) -> None:
    read_experiment(url, "loss", "min")


def open_archive(url: str) -> None:
    Archive(url).tasks()


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch) -> Path:
    """Whatever a file system leaves is in here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_failure(read, url: str, caplog, capsys) -> None:
    """Reading fails, and nothing that anybody may see holds the secret."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            read(url)
        except (SourceError, ArchiveError, TypeError) as error:
            shown, message = "".join(traceback.format_exception(error)), str(error)
    assert SECRET not in shown
    assert "\n" not in message
    captured = capsys.readouterr()
    for text in (captured.out, captured.err, *(str(w.message) for w in caught)):
        assert SECRET not in text
    ours = ("metahpo", "optuna", "ray")
    for record in caplog.records:
        if record.name.startswith(ours):
            assert SECRET not in record.getMessage() + str(record.exc_info)


@pytest.mark.parametrize("read", [read_as_history, read_as_experiment, read_tasks, open_archive])
@pytest.mark.parametrize("url", SIMPLE)
def test_an_error_shows_no_secret(read, url, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    check_failure(read, url, caplog, capsys)


@pytest.mark.parametrize("password", [f"{SECRET}/xyzzy", f"a {SECRET}", f"{SECRET}@x:y"])
@pytest.mark.parametrize("scheme", ["ftp", "sftp", "nosuch"])
def test_an_archive_that_cannot_be_opened_shows_no_secret(scheme, password, caplog, capsys):
    url = f"{scheme}://user:{password}@127.0.0.1:1/x"
    check_failure(open_archive, url, caplog, capsys)
    check_failure(read_as_history, url, caplog, capsys)


def test_an_archived_task_names_no_password_with_a_blank(tmp_path):
    archive = Archive(tmp_path)
    trials = (Trial({"x": 0.5}, 1.0),)
    archive.add(Task("a", SPACE, trials, source=f"sftp://u:pa {SECRET}@h/x"))
    (task,) = archive.tasks()
    assert task.source == "sftp://u:***@h/x"


@pytest.mark.slow
@pytest.mark.parametrize("read", [read_as_history, read_as_experiment, read_tasks])
@pytest.mark.parametrize("url", ODD)
def test_an_error_shows_no_secret_however_odd(read, url, caplog, capsys):
    check_failure(read, url, caplog, capsys)


@pytest.mark.parametrize("url", [*SIMPLE, *ODD])
def test_a_text_about_a_source_shows_no_secret(url):
    for text in (url, repr(url), f"cannot read {url}: {url!r} is wrong", f"x {url!r}; y"):
        assert SECRET not in without_passwords(text, url)
        assert SECRET not in message_of(text, url)
    if SECRET * 2 in url:  # a token has no parts
        return
    for text in (f"port could not be cast: '{SECRET}'", f"login as user with {SECRET} failed"):
        assert SECRET not in reason_of(ValueError(text), url)


@pytest.mark.parametrize("url", SIMPLE)
def test_a_text_with_urls_in_it_shows_no_secret(url):
    """Without being told the source: a log, a chain of errors, several URLs in one line."""
    for text in (url, repr(url), f"cannot read {url!r} (x: {url}; y)", f"{url} {url}", [url]):
        assert SECRET not in without_passwords(str(text))


@pytest.mark.parametrize(
    "text",
    ["s3://bucket/a:b@c", "sqlite:////tmp/a@b.db", "mysql://user@host/db", "a:b@c", "C:\\x\\y@z",
     "/data/key=3/run", "skipped 2 studies of sqlite:////tmp/x.db: 'a' (no finished trial)",
     "https://host/x?a=b&c=d", "monkey=3", "12:30:45 by user@host",
     "tokenizer=bpe", "https://host/x?max_tokens=512", "study 'model:resnet:50@v2'",
     "n_tokens = 5", "sftp://me@host:22/data/model@v2", "if token == x"],
)  # fmt: skip
def test_texts_without_secrets_stay(text):
    assert without_passwords(text, text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host=h password=hunter2x user=u", "host=h password=*** user=u"),
        ("host=h password = hunter2x", "host=h password = ***"),
        ("host=h,password=hunter2x", "host=h,password=***"),
        ("password='a hunter2x' user=u", "password=***' user=u"),
        ('password="a hunter2x"', 'password=***"'),
        ("a://me@corp:hunter2x@host/b", "a://me@corp:***@host/b"),
        ("a://me%40corp:hunter2x@host/b", "a://me%40corp:***@host/b"),
    ],
)
def test_a_secret_alone_is_hidden(text, shown):
    assert without_passwords(text) == shown
    assert holds_secrets(text)


@pytest.mark.parametrize("url", [*SIMPLE, *ODD])
def test_a_name_of_a_source_is_shown_without_secrets_and_once_and_for_all(url):
    shown = shown_source(url)
    assert SECRET not in shown
    assert shown_source(shown) == shown
    assert not holds_secrets(shown)


# Of lengths at which quadratic time takes many minutes.
HOSTILE = ["a:", "key", "://", ";\\", "password =", "//a@"]
MORE_HOSTILE = ["?key", "?", "//", "a.", ":/", ":\\", "password=", "?key=", "%3A", "%3A%2F", "@",
                "password='", "password='\\", "//a:", "http:", "&sig=1&", "\\' ", "?%", "a b ",
                "%40", "/a@b:", "pwd1", "x=", "token='\"", ";"]  # fmt: skip


@pytest.mark.timeout(100)
@pytest.mark.parametrize("part", HOSTILE)
def test_a_text_of_somebody_else_takes_linear_time(part):
    text = f"?{part * (5 * 10**5 // len(part))}@"
    assert without_passwords(text)
    assert reason_of(ValueError(text), text)


@pytest.mark.slow
@pytest.mark.timeout(100)
@pytest.mark.parametrize("part", [*HOSTILE, *MORE_HOSTILE])
@pytest.mark.parametrize(("before", "after"), [("?", "@"), ("u://a:", "@h")])
def test_any_text_of_somebody_else_takes_linear_time(part, before, after):
    text = before + part * (5 * 10**5 // len(part)) + after
    assert shown_source(text)
    assert without_passwords(text, text)


def test_a_source_with_thousands_of_secrets_takes_linear_time():
    text = "?" + "".join(f"sig={number}!a&" for number in range(10**4))
    assert "123!a" not in without_passwords(text, text)


# ---- where a source's name is kept ---------------------------------------------------------

SPACE = Space({"x": FloatDistribution(0, 1)})


class SecretReader:
    """A reader of somebody else's that keeps the URL it was given."""

    types = (str,)
    accepts, looks_for = "a URL", "values"

    def read(self, source: str, options: ReadOptions) -> list[Task]:
        trials = (Trial({"x": 0.5}, 1.0, started=1.0), Trial({"x": 0.25}, 2.0, started=2.0))
        return [Task("kept", SPACE, trials, source=source)]


def test_no_file_and_no_output_holds_a_secret(tmp_path, monkeypatch, capsys):
    from metahpo.archive import sources

    monkeypatch.setattr(sources, "_readers", lambda: {"own": SecretReader()})
    url = f"own://user:{SECRET}@host/x?token={SECRET}"
    assert cli.main(["collect", url, "--to", str(tmp_path / "archive")]) == 0
    assert cli.main(["show", str(tmp_path / "archive"), "--task", "kept"]) == 0
    storage = f"sqlite:///{tmp_path / 'hpo.db'}"
    study = optuna.create_study(storage=storage, sampler=MetaSampler(history=url, seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    shown = explain(study.trials[0]) + repr(study.sampler) + str(study.trials)
    captured = capsys.readouterr()
    assert "own://user:***@host" in captured.out
    assert SECRET not in shown + captured.out + captured.err
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    (kept,) = Archive(tmp_path / "archive").tasks()
    assert kept.source == "own://user:***@host/x?token=***"


def test_the_command_line_shows_no_secret(capsys):
    for url in SIMPLE:
        assert cli.main(["collect", url, "--to", "archive"]) == 1
        assert cli.main(["show", url]) == 1
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err


# ---- control characters --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\nb\tc\r\nd", "a b c d"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\ud800", r"\ud800"),
        ("\x9b2J\x07\x00", r"\x9b2J\x07\x00"),
        ("Größe π 🚀", "Größe π 🚀"),
    ],
)
def test_a_terminal_does_not_obey_names(text, shown):
    assert printable(text) == shown
    for kind in (SourceError, SourceWarning, ArchiveError):
        assert str(kind(text)) == shown


def test_messages_have_a_bounded_length():
    text = str(SourceError("x" * 10**6))
    assert len(text) < 3000
    assert text.endswith("... (1000000 characters)")
