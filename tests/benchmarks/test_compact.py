"""Compact result files: the reports read the same from them."""

import json

import pytest

pytest.importorskip("onnxruntime", reason="the benchmarks need metahpo[bench]")

from benchmarks import compact, optimizers_report, report
from benchmarks.records import expand_regrets, read_records

RUN = {
    **{"family": "rpart", "history": "good", "split": "history", "trials": 3, "past_tasks": 2},
    **{"versions": {"python": "3.11"}, "revision": "abc", "cores": 2, "date": "2026-01-01"},
    **{"bounds": {"best": 1.0, "worst": 0.0, "exact": True}, "cpu_seconds": 0.5},
    **{"milliseconds": [1.0, 2.0, 3.0], "setup_milliseconds": 4.0, "peak_megabytes": 100},
}
TRAINING = {
    **{"task": "t", "steps": 4, "every": 1, "diverged": False, "cpu_seconds": 1.0},
    **{"versions": {"python": "3.11"}, "revision": "abc", "cores": 2},
}


def study(method, task, regrets):
    values = [1 - regret for regret in regrets]
    return RUN | {"method": method, "task": task, "seed": 0, "regrets": regrets, "values": values}


def training(method, losses, seed=0):
    held_out = [[4, losses[-1]]]
    return TRAINING | {"method": method, "seed": seed, "losses": losses, "held_out": held_out}


def written(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def compacted(tmp_path):
    """The file of some records, and the compact one of the same."""

    def both(records):
        full, small = tmp_path / "full.jsonl", tmp_path / "compact.jsonl"
        written(full, records)
        assert compact.main([str(full), "--out", str(small)]) == 0
        return full, small

    return both


def test_the_report_of_studies_is_the_same_from_a_compact_file(compacted, capsys):
    records = [
        study("tpe", "1", [0.5, 0.5, 0.2]),
        study("meta", "1", [0.4, 0.1, 0.1]),
        study("meta", "2", [0.4, 0.4, 0.4]) | {"revision": "def"},
        study("tpe", "2", [0.4, 0.3, 0.0]),
    ]
    files = compacted(records)
    capsys.readouterr()
    printed = []
    for file in files:
        assert report.main([str(file)]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert files[1].stat().st_size < files[0].stat().st_size


def test_the_report_of_trainings_is_the_same_from_a_compact_file(compacted, capsys):
    records = [
        training("learned", [4.0, 3.0, 2.0, 1.0]),
        training("adamw", [4.0, 3.5, 3.0, 2.5]),
        training("adamw@0.01", [4.0, 3.0, 2.0, 1.5]),
        training("adamw@0.0001", [4.0, 3.9, 3.8, 3.7]),
    ]
    files = compacted(records)
    capsys.readouterr()
    printed = []
    for file in files:
        assert optimizers_report.main([str(file)]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    *_, losing = read_records(files[1])
    assert losing["final_loss"] == 3.7
    assert "losses" not in losing


def test_a_run_added_to_a_compact_file_keeps_its_own_circumstances(compacted):
    _, small = compacted([study("tpe", "1", [0.5, 0.5, 0.2])])
    with small.open("a") as file:
        file.write(json.dumps(study("tpe", "2", [0.5, 0.4, 0.4]) | {"revision": "def"}) + "\n")
    first, second = read_records(small)
    assert (first["revision"], second["revision"]) == ("abc", "def")
    assert first["regrets"] == [0.5, 0.5, 0.2]
    assert second["regrets"] == [0.5, 0.4, 0.4]


def test_a_regret_holds_until_it_improves():
    assert expand_regrets([(1, 0.5), (3, 0.25)], 4) == [0.5, 0.5, 0.25, 0.25]


def test_a_problem_whose_best_value_is_not_known_is_refused(tmp_path):
    unknown = study("tpe", "1", [0.5, 0.4, 0.4])
    unknown |= {"bounds": {"best": 1.0, "worst": 0.0, "exact": False}}
    path = written(tmp_path / "live.jsonl", [unknown])
    with pytest.raises(ValueError, match="rpart/1 has no exact best value"):
        compact.main([str(path), "--out", str(tmp_path / "out.jsonl")])
