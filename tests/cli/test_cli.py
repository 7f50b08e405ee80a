"""The command line: what it prints, and how it ends."""

import subprocess
import sys
from pathlib import Path

import optuna
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from support.ray_folders import params, write_trial

from metahpo import cli
from metahpo.archive import Archive
from metahpo.cli import commands
from metahpo.recommendation.recommend import METHODS
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial

TASK = Task(
    "mnist",
    Space(
        {
            "lr": FloatDistribution(1e-4, 1e-1, log=True),
            "layers": IntDistribution(2, 8, step=2),
            "act": CategoricalDistribution(["relu", None]),
        }
    ),
    tuple(Trial({"lr": 0.01, "layers": 2, "act": None}, value) for value in range(7)),
    {"rows": 60000.0},
    created=1.7e9,
    source="sqlite:///hpo.db",
)


@pytest.fixture
def archive(tmp_path: Path) -> str:
    path = str(tmp_path / "archive")
    Archive(path).extend([TASK, Task("empty", Space({}))])
    return path


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A database with a study to learn from and one without a trial."""
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
    def test_every_kind_of_source(self, archive, url, experiment, tmp_path, capsys):
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

    def test_again(self, archive, tmp_path, capsys):
        to = str(tmp_path / "new")
        for told in ("2 added, 0 replaced, 0 unchanged", "0 added, 0 replaced, 2 unchanged"):
            assert cli.main(["collect", archive, "--to", to]) == 0
            assert told in capsys.readouterr().out

    def test_a_source_of_no_known_kind(self, tmp_path, capsys):
        to, missing = tmp_path / "new", str(tmp_path / "missing")
        assert cli.main(["collect", missing, "--to", str(to)]) == 1
        out, err = capsys.readouterr()
        assert not out
        assert err.count("\n") == 1
        assert f"no past tasks found in {missing!r}" in err
        for reader in ("optuna:", "ray:", "archive:"):
            assert reader in err
        assert not to.exists()

    def test_a_folder_without_tasks(self, tmp_path, capsys):
        assert cli.main(["collect", str(tmp_path), "--to", str(tmp_path / "new")]) == 1
        assert "there are no Parquet files in" in capsys.readouterr().err

    def test_the_reader_that_recognises_a_source_has_the_word(self, experiment, tmp_path, capsys):
        assert cli.main(["collect", experiment, "--to", str(tmp_path / "new")]) == 1
        err = capsys.readouterr().err
        assert "--metric" in err
        assert "optuna:" not in err

    def test_a_mistyped_url_creates_nothing(self, tmp_path, capsys):
        source = f"sqlite:///{tmp_path / 'missing.db'}"
        assert cli.main(["collect", source, "--to", str(tmp_path / "new")]) == 1
        assert "there is no file" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_an_archive_that_cannot_be_written(self, archive, tmp_path, capsys):
        (tmp_path / "file").write_text("")
        assert cli.main(["collect", archive, "--to", str(tmp_path / "file")]) == 1
        assert capsys.readouterr().err.startswith("metahpo: error: ")


class TestShow:
    def test_all(self, archive, capsys):
        assert cli.main(["show", archive]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "task   trials  best  hyperparameters  meta-features  created",
            "empty  0       -     -                0              -",
            "mnist  7       6     lr, layers, act  1              2023-11-14 22:13",
        ]

    def test_one(self, archive, capsys):
        assert cli.main(["show", archive, "--task", "mnist"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "source    sqlite:///hpo.db" in lines
        assert "trials    7, 7 with a value" in lines
        assert "  lr      number 0.0001 to 0.1, log scale" in lines
        assert "  layers  whole number 2 to 8, step 2" in lines
        assert "  act     one of 'relu', None" in lines
        assert "  rows  60000" in lines
        best = [line for line in lines if line.endswith("lr=0.01, layers=2, act=None")]
        assert [line.split()[0] for line in best] == ["6", "5", "4", "3", "2"]

    def test_one_with_nothing_in_it(self, archive, capsys):
        assert cli.main(["show", archive, "--task", "empty"]) == 0
        assert "trials    0, 0 with a value" in capsys.readouterr().out

    def test_an_unknown_task(self, archive, capsys):
        assert cli.main(["show", archive, "--task", "mnits"]) == 1
        assert "did you mean 'mnist'?" in capsys.readouterr().err

    def test_no_archive(self, tmp_path, capsys):
        assert cli.main(["show", str(tmp_path / "missing")]) == 1
        assert "there is no archive at" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_a_broken_file_is_told_of(self, archive, capsys):
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
    def test_a_file(self, archive, data, kind, capsys):
        if kind == "parquet":
            pa.parquet.write_table(pa.csv.read_csv(data), data.with_suffix(".parquet"))
        arguments = ["recommend", str(data.with_suffix(f".{kind}")), "--target", "class"]
        assert cli.main([*arguments, "--archive", archive, "-k", "1"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].split() == ["1", "1.000", "lr=0.01,", "layers=2,", "act=None"]
        assert "  1.000  mnist" in lines

    def test_what_is_missing_is_told(self, archive, data, capsys):
        for arguments, told in (
            ([str(data), "--target", "clas"], "did you mean 'class'?"),
            ([f"{data}x", "--target", "class"], "there is no file"),
        ):
            assert cli.main(["recommend", *arguments, "--archive", archive]) == 1
            assert told in capsys.readouterr().err
        missing = ["--archive", f"{archive}x"]
        assert cli.main(["recommend", str(data), "--target", "class", *missing]) == 1
        assert "there is no archive" in capsys.readouterr().err

    def test_the_methods_are_those_there_are(self):
        assert tuple(METHODS) == commands.METHODS


class TestEnds:
    @pytest.mark.parametrize(
        "arguments",
        [[], ["collect"], ["collect", "x"], ["collect", "x", "--to", "y", "--mode", "best"]],
    )
    def test_what_cannot_be_parsed(self, arguments, capsys):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 2
        assert "usage: metahpo" in capsys.readouterr().err

    def test_as_a_module(self, archive):
        run = subprocess.run(
            [sys.executable, "-m", "metahpo", "show", archive],
            check=True,
            capture_output=True,
            text=True,
        )
        assert "mnist" in run.stdout
        assert not run.stderr

    def test_interrupted(self):
        program = (
            "import os, signal, sys, time\n"
            "from metahpo import cli\n"
            # A shell starts its background jobs with the signal ignored.
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "def work(archive):\n"
            "    os.kill(os.getpid(), signal.SIGINT)\n"
            "    time.sleep(60)\n"
            "cli.Archive.tasks = work\n"
            "sys.exit(cli.main(['show', 'x']))\n"
        )
        run = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
        assert (run.returncode, run.stdout, run.stderr) == (130, b"", b"")

    def test_a_reader_of_the_output_that_leaves(self, archive):
        # More than a pipe holds.
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
