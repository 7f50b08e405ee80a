import csv

import pytest

pytest.importorskip("onnxruntime", reason="the benchmarks need metahpo[bench]")

from support.benchmark_data import needs_data

from benchmarks import predictions, training_data
from metahpo.surrogate.neural.pretrained import default_weights

pytestmark = needs_data


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A few configurations of each task of a family, in archives."""
    folder = tmp_path_factory.mktemp("training")
    assert training_data.main(["--to", str(folder), "--families", "rpart", "--count", "60"]) == 0
    return folder


def read(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_each_method_gets_a_row_for_each_number_of_trials(training, tmp_path, capsys):
    out = tmp_path / "rows.csv"
    arguments = ["--training", str(training), "--part", "validation", "--tasks", "2"]
    arguments += ["--weights", str(default_weights()), "--out", str(out)]
    assert predictions.main(arguments) == 0
    rows = read(out)
    assert {row["method"] for row in rows} == set(predictions.METHODS)
    assert len(rows) == 2 * len(predictions.TRIALS) * len(predictions.METHODS)
    first = [row for row in rows if row["trials"] == "0" and row["task"] == rows[0]["task"]]
    ranks = {row["method"]: float(row["rank"]) for row in first}
    # Without trials, who knows nothing else orders nothing; the network knows the learner.
    assert ranks["target-only GP"] == 0.0
    assert ranks["neural"] > 0.3
    printed = capsys.readouterr().out

    only = ["--methods", "neural"]
    assert predictions.main([*arguments, *only]) == 0
    again = read(out)
    assert again == [row for row in rows if row["method"] == "neural"]
    assert printed.count("\n") > capsys.readouterr().out.count("\n")


def test_wrong_files_are_reported_in_one_line(training, tmp_path, capsys):
    missing = str(tmp_path / "none.safetensors")
    assert predictions.main(["--training", str(training), "--weights", missing]) == 2
    weights = ["--weights", str(default_weights())]
    assert predictions.main(["--training", str(tmp_path), *weights]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert missing in first
    assert str(tmp_path) in second
