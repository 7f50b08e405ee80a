"""`python -m benchmarks.run`: it plans, runs, resumes and reports."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("onnxruntime", reason="the benchmarks need metahpo[bench]")

from support.benchmark_data import needs_data

from benchmarks import records, report, run
from benchmarks.peers import Method
from benchmarks.problems import split

pytestmark = pytest.mark.usefixtures("fresh_cache")


@needs_data
class TestRun:
    METHODS = ("random", "tpe", "gp", "tpe+portfolio", "gp+portfolio")

    def arguments(self, out, *more):
        return [
            *("--families", "rpart", "--methods", *self.METHODS, "--history", "small"),
            *("--tasks", "2", "--seeds", "1", "--trials", "5", "--out", str(out), *more),
        ]

    def test_a_run_cut_short_is_repeated_and_the_others_are_kept(
        self, tmp_path, monkeypatch, capsys
    ):
        # Workers would not see the fresh cache; the test needs no processes of its own.
        monkeypatch.setattr(run, "ProcessPoolExecutor", _InProcess)
        out = tmp_path / "runs.jsonl"
        assert run.main(self.arguments(out)) == 0
        first = list(records.read_records(out))
        assert len(first) == 10
        for record in first:
            assert len(record["values"]) == len(record["milliseconds"]) == 5
            assert record["regrets"] == sorted(record["regrets"], reverse=True)
            assert all(0 <= regret <= 1 for regret in record["regrets"])

        # A run whose line was cut short is run again, the others are not.
        lines = out.read_text().splitlines()
        out.write_text("\n".join(lines[:9]) + "\n" + lines[9][:50])
        assert run.main(self.arguments(out)) == 0
        assert [records.job_of(record) for record in records.read_records(out)] == [
            records.job_of(record) for record in first
        ]

        assert report.main([str(out), "--plot", str(tmp_path / "curves.png")]) == 0
        assert "tpe+portfolio (small)" in capsys.readouterr().out
        assert (tmp_path / "curves.png").stat().st_size > 0

    def test_a_failing_run_is_reported_and_not_written(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(run, "ProcessPoolExecutor", _InProcess)
        monkeypatch.setitem(run.METHODS, "tpe", Method(_broken, "optuna"))
        out = tmp_path / "runs.jsonl"
        assert run.main(self.arguments(out, "--methods", "tpe")) == 1
        assert list(records.read_records(out)) == []
        assert "no such luck" in capsys.readouterr().err

    def test_missing_data_are_reported_in_one_line(self, tmp_path, capsys):
        assert run.main(self.arguments(tmp_path / "x", "--data", str(tmp_path))) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(tmp_path) in line

    @pytest.mark.parametrize(
        ("method", "printed"),
        [("nobody", "no method is called 'nobody'"), ("tpe@x", "no method is called 'tpe@x'")],
    )
    def test_unknown_methods_are_refused(self, method, printed, tmp_path, capsys):
        with pytest.raises(SystemExit):
            run.parse(["--methods", method, "--out", str(tmp_path / "x")])
        assert printed in capsys.readouterr().err

    def test_a_file_without_weights_is_reported_in_one_line(self, tmp_path, capsys):
        nothing = tmp_path / "nothing.safetensors"
        nothing.write_bytes(b"")
        more = ("--methods", f"meta@{nothing}")
        assert run.main(self.arguments(tmp_path / "x", *more)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(nothing) in line

    def test_explicit_options_override_those_of_quick(self, tmp_path):
        arguments = run.parse(["--quick", "--trials", "3", "--out", str(tmp_path / "x")])
        assert (arguments.trials, arguments.seeds) == (3, 1)

    def test_methods_are_left_out_where_they_do_not_apply(self, tmp_path):
        out = ("--out", str(tmp_path / "x"), "--tasks", "1")
        methods = ("--methods", "cma", "meta-no-metafeatures", "meta-no-trust")
        planned = {
            (job.family, job.method)
            for job in run.plan(run.parse(["--families", "lcbench", "xgboost", *methods, *out]))
        }
        assert planned == {
            ("lcbench", "cma"),
            ("lcbench", "meta-no-trust"),
            ("xgboost", "meta-no-trust"),
        }

    def test_seed_zero_of_all_families_comes_first(self, tmp_path):
        arguments = run.parse(
            [
                *("--families", "rpart", "lcbench", "--methods", "tpe", "meta", "--tasks", "3"),
                *("--split", "validation", "--seeds", "2", "--out", str(tmp_path / "x")),
            ]
        )
        jobs = run.plan(arguments)
        assert [job.seed for job in jobs] == [0] * 12 + [1] * 12
        assert [(job.family, job.method) for job in jobs[:4]] == [
            ("rpart", "tpe"),
            ("rpart", "meta"),
            ("lcbench", "tpe"),
            ("lcbench", "meta"),
        ]
        assert {job.task for job in jobs if job.family == "lcbench"} <= set(
            split("lcbench").validation
        )


class _InProcess:
    """Runs what is submitted at once, in this process."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        from concurrent.futures import Future

        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


def _broken(problem, history, seed, trials):
    raise RuntimeError("no such luck")


@needs_data
class TestProcesses:
    """Real processes: what they import takes most of the time."""

    @pytest.mark.slow
    def test_a_killed_run_resumes_and_repeats_nothing(self, tmp_path):
        out = tmp_path / "runs.jsonl"
        command = [
            *(sys.executable, "-m", "benchmarks.run", "--families", "rpart", "--out", str(out)),
            *("--methods", "random", "tpe", "--tasks", "3", "--seeds", "3", "--trials", "30"),
            *("--jobs", "2"),
        ]
        first = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        while len(list(records.read_records(out))) < 3 and first.poll() is None:
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        kept = list(records.read_records(out))
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        finished = list(records.read_records(out))
        assert finished[: len(kept)] == kept
        assert len(finished) == len({records.job_of(record) for record in finished}) == 18

    @pytest.mark.slow
    def test_quick_completes_ten_runs(self, tmp_path):
        out = tmp_path / "quick.jsonl"
        command = [sys.executable, "-m", "benchmarks.run", "--quick", "--out", str(out)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        made = list(records.read_records(out))
        assert len(made) == 10
        assert all(record["peak_megabytes"] > 50 for record in made)
