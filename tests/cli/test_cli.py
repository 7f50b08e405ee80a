"""The command line: what it prints, and its exit codes."""

import os
import subprocess
import sys
from pathlib import Path

import optuna
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages.journal import JournalFileBackend
from support.problems import NETWORK
from support.ray_folders import params, write_trial

from metahpo import cli
from metahpo.archive import Archive
from metahpo.archive.sources import read_history
from metahpo.cli import commands
from metahpo.recommendation.recommend import METHODS
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial

TASK = Task(
    "mnist",
    NETWORK,
    tuple(Trial({"lr": 0.01, "layers": 2, "act": None}, value) for value in range(7)),
    {"rows": 60000.0},
    created=1.7e9,
    source="sqlite:///hpo.db",
)
SHOWING = "import sys; from metahpo import cli; cli.main(['show', sys.argv[1]])"


@pytest.fixture
def archive(tmp_path: Path) -> str:
    path = str(tmp_path / "archive")
    Archive(path).extend([TASK, Task("empty", Space({}))])
    return path


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database with a study that has a finished trial and one that has none."""
    url = f"sqlite:///{tmp_path / 'hpo.sqlite3'}"
    study = optuna.create_study(storage=url, study_name="xgb", direction="minimize")
    study.tell(study.ask({"x": FloatDistribution(0, 1)}), 0.25)
    optuna.create_study(storage=url, study_name="nothing")
    return url


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    for number in (1, 2):
        write_trial(tmp_path / "train", number, params(number), [0.1, 0.2])
    return str(tmp_path / "train")


class TestCollect:
    def test_sources_of_every_kind_are_collected_together(
        self, archive, url, experiment, tmp_path, capsys
    ):
        to = str(tmp_path / "new")
        options = ["--to", to, "--metric", "eval/acc", "--mode", "max"]
        assert cli.main(["collect", archive, url, experiment, *options]) == 0
        out, err = capsys.readouterr()
        assert out == f"4 tasks to {to}: 4 added, 0 replaced, 0 unchanged\n"
        assert err.count("\n") == 1
        assert "metahpo: warning: skipped 1 study" in err
        assert "'nothing' (no finished trial)" in err
        assert Archive(to).names() == ["empty", "mnist", "train", "xgb"]
        assert Archive(to).task("xgb").trials[0].value == -0.25

    def test_collecting_again_leaves_the_archive_unchanged(self, archive, tmp_path, capsys):
        to = str(tmp_path / "new")
        for counts in ("2 added, 0 replaced, 0 unchanged", "0 added, 0 replaced, 2 unchanged"):
            assert cli.main(["collect", archive, "--to", to]) == 0
            assert counts in capsys.readouterr().out

    def test_an_unreadable_source_lists_what_every_reader_said(self, tmp_path, capsys):
        to, missing = tmp_path / "new", str(tmp_path / "missing")
        assert cli.main(["collect", missing, "--to", str(to)]) == 1
        out, err = capsys.readouterr()
        assert not out
        assert err.count("\n") == 1
        assert f"no past tasks found in {missing!r}" in err
        for reader in ("optuna:", "ray:", "archive:"):
            assert reader in err
        assert not to.exists()

    def test_a_folder_without_tasks_is_an_error(self, tmp_path, capsys):
        assert cli.main(["collect", str(tmp_path), "--to", str(tmp_path / "new")]) == 1
        assert "there are no Parquet files in" in capsys.readouterr().err

    def test_only_the_reader_that_recognises_a_source_reports_its_error(
        self, experiment, tmp_path, capsys
    ):
        assert cli.main(["collect", experiment, "--to", str(tmp_path / "new")]) == 1
        err = capsys.readouterr().err
        assert "--metric" in err
        assert "optuna:" not in err

    def test_a_mistyped_url_is_an_error_and_creates_no_file(self, tmp_path, capsys):
        source = f"sqlite:///{tmp_path / 'missing.db'}"
        assert cli.main(["collect", source, "--to", str(tmp_path / "new")]) == 1
        assert "there is no file" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_an_archive_that_cannot_be_written_is_an_error(self, archive, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        assert cli.main(["collect", archive, "--to", str(tmp_path / "file")]) == 1
        assert capsys.readouterr().err.startswith("metahpo: error: ")


class TestShow:
    def test_all_tasks_are_listed_one_per_line(self, archive, capsys):
        assert cli.main(["show", archive]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "task   trials  best  hyperparameters  meta-features  created",
            "empty  0       -     -                0              -",
            "mnist  7       6     lr, layers, act  1              2023-11-14 22:13",
        ]

    def test_an_infeasible_trial_is_never_shown_as_the_best(self, tmp_path, capsys):
        path = str(tmp_path / "constrained")
        trials = (
            Trial({"lr": 0.01}, 9.0, violation=2.0),
            Trial({"lr": 0.02}, 1.0),
            Trial({"lr": 0.03}, 2.0),
        )
        Archive(path).extend(
            [Task("some", NETWORK, trials), Task("none", NETWORK, trials[:1], created=1.7e9)]
        )
        assert cli.main(["show", path]) == 0
        none, some = (line.split() for line in capsys.readouterr().out.splitlines()[1:])
        assert none[:3] == ["none", "1", "-"]
        assert some[:3] == ["some", "3", "2"]
        assert cli.main(["show", path, "--task", "some"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "trials    3, 3 with a value, 1 of them infeasible" in lines
        assert [line.strip() for line in lines[-3:]] == [
            "2  lr=0.03",
            "1  lr=0.02",
            "9  lr=0.01 (infeasible, by 2)",
        ]

    def test_a_task_is_described_with_its_space_and_best_configurations(self, archive, capsys):
        assert cli.main(["show", archive, "--task", "mnist"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "source    sqlite:///hpo.db" in lines
        assert "trials    7, 7 with a value" in lines
        assert "  lr      float from 0.0001 to 0.1, log scale" in lines
        assert "  layers  integer from 2 to 8, step 2" in lines
        assert "  act     one of 'relu', None" in lines
        assert "  rows  60000" in lines
        best = [line for line in lines if line.endswith("lr=0.01, layers=2, act=None")]
        assert [line.split()[0] for line in best] == ["6", "5", "4", "3", "2"]

    def test_a_task_without_trials_is_described(self, archive, capsys):
        assert cli.main(["show", archive, "--task", "empty"]) == 0
        assert "trials    0, 0 with a value" in capsys.readouterr().out

    def test_what_the_encoding_lacks_is_shown_as_escapes(self, tmp_path):
        path = str(tmp_path / "archive")
        Archive(path).add(Task("größe", Space({})))
        shown = subprocess.run(
            [sys.executable, "-c", SHOWING, path],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
        assert rb"gr\xf6\xdfe" in shown.stdout

    def test_an_unknown_task_is_an_error_that_suggests_a_name(self, archive, capsys):
        assert cli.main(["show", archive, "--task", "mnits"]) == 1
        assert "did you mean 'mnist'?" in capsys.readouterr().err

    def test_a_missing_archive_is_an_error_and_creates_no_folder(self, tmp_path, capsys):
        assert cli.main(["show", str(tmp_path / "missing")]) == 1
        assert "there is no archive at" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_a_broken_file_is_skipped_with_a_warning(self, archive, capsys):
        (Path(archive) / "broken.parquet").write_bytes(b"")
        assert cli.main(["show", archive]) == 0
        out, err = capsys.readouterr()
        assert "mnist" in out
        assert err.startswith("metahpo: warning: skipped ")
        assert "broken.parquet" in err


class TestRecommend:
    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        path = tmp_path / "data.csv"
        lines = [f"{n},{n % 7},{'ab'[n % 2]}" for n in range(40)]
        path.write_text("\n".join(["size,shape,class", *lines]))
        return path

    @pytest.mark.parametrize("kind", ["csv", "parquet"])
    def test_recommendations_for_a_file_are_printed_with_their_past_tasks(
        self, archive, data, kind, capsys
    ):
        if kind == "parquet":
            pa.parquet.write_table(pa.csv.read_csv(data), data.with_suffix(".parquet"))
        arguments = ["recommend", str(data.with_suffix(f".{kind}")), "--target", "class"]
        assert cli.main([*arguments, "--archive", archive, "-k", "1"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].split() == ["1", "1.000", "lr=0.01,", "layers=2,", "act=None"]
        assert "  1.000  mnist" in lines

    def test_a_missing_file_column_or_archive_is_an_error(self, archive, data, capsys):
        for arguments, message in (
            ([str(data), "--target", "clas"], "did you mean 'class'?"),
            ([f"{data}x", "--target", "class"], "there is no file"),
        ):
            assert cli.main(["recommend", *arguments, "--archive", archive]) == 1
            assert message in capsys.readouterr().err
        missing = ["--archive", f"{archive}x"]
        assert cli.main(["recommend", str(data), "--target", "class", *missing]) == 1
        assert "there is no archive" in capsys.readouterr().err

    def test_the_methods_on_offer_are_those_of_the_library(self):
        assert tuple(METHODS) == commands.METHODS


class TestExitCodes:
    @pytest.mark.parametrize(
        "arguments",
        [[], ["collect"], ["collect", "x"], ["collect", "x", "--to", "y", "--mode", "best"]],
    )
    def test_a_command_that_cannot_be_parsed_exits_with_2(self, arguments, capsys):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 2
        assert "usage: metahpo" in capsys.readouterr().err

    def test_the_package_runs_as_a_module(self, archive):
        run = subprocess.run(
            [sys.executable, "-m", "metahpo", "show", archive],
            check=True,
            capture_output=True,
            text=True,
        )
        assert "mnist" in run.stdout
        assert not run.stderr

    def test_an_interrupt_exits_with_130_and_prints_nothing(self):
        program = (
            "import os, signal, sys, time\n"
            "from metahpo.cli import commands\n"
            # A shell starts its background jobs with the signal ignored.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "def work(archive):\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "    time.sleep(60)\n"
            "commands.Archive.tasks = work\n"
            "sys.exit(commands.main(['show', 'x']))\n"
        )
        run = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
        assert (run.returncode, run.stdout, run.stderr) == (130, b"", b"")

    def test_a_closed_pipe_is_not_an_error(self, archive):
        # More output than a pipe buffers.
        Archive(archive).extend(Task(f"{n:0500d}", Space({})) for n in range(300))
        with subprocess.Popen(
            [sys.executable, "-m", "metahpo", "show", archive],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as run:
            assert run.stdout is not None
            assert run.stderr is not None
            run.stdout.readline()
            run.stdout.close()
            assert run.stderr.read() == b""
        assert run.returncode == 0


@pytest.mark.parametrize("kind", ["database", "journal"])
def test_collecting_keeps_user_attributes_and_histories_are_read_without(kind, tmp_path):
    path = tmp_path / "hpo"
    storage = (
        optuna.storages.RDBStorage(f"sqlite:///{path}")
        if kind == "database"
        else optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    )
    study = optuna.create_study(storage=storage, study_name="noted")
    study.set_user_attr("team", "vision")
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    trial.set_user_attr("seconds", [1, 2.5])
    study.tell(trial, 0.0)
    study.add_trial(
        optuna.trial.create_trial(
            value=1.0,
            params={"x": 0.5},
            distributions=trial.distributions,
            user_attrs={"host": None},
        )
    )
    assert cli.main(["collect", str(path), "--to", str(tmp_path / "archive")]) == 0
    (task,) = Archive(tmp_path / "archive")
    assert task.user_attributes == {"team": "vision"}
    assert [t.user_attributes for t in task.trials] == [{"seconds": [1, 2.5]}, {"host": None}]
    (unnoted,) = read_history(str(path))
    assert not unnoted.user_attributes
    assert not any(trial.user_attributes for trial in unnoted.trials)
