"""The benchmark of learning curves."""

import csv

import numpy as np
import pytest
import torch
from optuna.distributions import FloatDistribution

pytest.importorskip("onnxruntime", reason="onnxruntime missing: pip install 'metahpo[bench]'")

from support.benchmark_data import needs_data

from benchmarks import curves, training_data
from benchmarks.curve_peers import HORIZON, CurveGP, LastValue, PowerLaw, Question, power_law
from benchmarks.problems import DATA, Split
from metahpo import Archive
from metahpo.surrogate.curves.curve_predictions import save_weights
from metahpo.surrogate.curves.curve_process import CurveArchitecture, CurveProcess
from metahpo.tasks.space import Space
from metahpo.train.intervals import coverage

COUNT = 16
SPACE = Space({"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)})


class Made:
    """A task whose curves are power laws that follow the configuration."""

    space = SPACE

    def __init__(self, name: str) -> None:
        self.name = name


def question(name: str, count: int, context: int = 10) -> Question:
    rng = np.random.default_rng(sum(map(ord, name)))
    points = rng.random((COUNT + context, 2))
    steps = np.arange(1, HORIZON + 1)
    power = 0.3 + 0.7 * points[:, :1]
    whole = 50 + 40 * points[:, 1:] - 30 * steps**-power + 0.2 * rng.normal(size=(len(points), 52))
    configurations = SPACE.decode(points)
    return Question(
        Made(name),  # type: ignore[arg-type]
        configurations[:COUNT],
        whole[:COUNT],
        count,
        configurations[COUNT:],
        whole[COUNT:],
    )


def test_a_power_law_is_recovered_from_its_beginning() -> None:
    steps = np.arange(1, HORIZON + 1)
    for a, b, c in ((90.0, 40.0, 0.5), (70.0, 10.0, 2.0), (60.0, -5.0, 0.1)):
        values = a - b * steps**-c
        assert power_law(values[:13]) == pytest.approx(values[-1], abs=0.05)


@pytest.mark.parametrize("peer", [LastValue, PowerLaw, CurveGP])
def test_peers_are_calibrated_on_other_curves_of_the_same_kind(peer, monkeypatch) -> None:
    """80% intervals hold at least 60% of 48 curves."""
    monkeypatch.setattr("benchmarks.curve_peers.GP_ITERATIONS", 25)
    monkeypatch.setattr("benchmarks.curve_peers.GP_EVERY", 5)
    fitted = peer([question(name, 13) for name in ("a", "b", "c")])
    replies = [fitted.reply(question(name, 13)) for name in ("d", "e", "f")]
    places = np.concatenate([reply.places for reply in replies])
    assert coverage(torch.from_numpy(places))[1] > 0.6
    assert all(np.isfinite(reply.log_densities).all() for reply in replies)
    finals = question("d", 13).finals
    gained = np.abs(question("d", 13).seen[:, -1] - finals).mean()
    error = np.abs(replies[0].medians - finals).mean()
    assert error == pytest.approx(gained) if peer is LastValue else error < 0.6 * gained


@needs_data
def test_the_command_writes_rows_and_a_table(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("benchmarks.curves.FITTED", 2)
    monkeypatch.setattr(curves, "split", lambda *_: Split(("126026", "126029"), ("167104",)))
    monkeypatch.setattr("benchmarks.curves.SHARES", (0.25,))
    monkeypatch.setattr("benchmarks.curve_peers.GP_ITERATIONS", 2)
    save_weights(CurveProcess(CurveArchitecture(width=8, grid=16)), tmp_path / "w.safetensors")
    command = ["--weights", str(tmp_path / "w.safetensors"), "--count", "3", "--tasks", "1",
               "--out", str(tmp_path / "rows.csv"), "--data", str(DATA)]  # fmt: skip
    assert curves.main(command) == 0
    assert "density, 10 curves: power law" in capsys.readouterr().out
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4
    assert {row["task"] for row in rows} == {"lcbench/167104"}


@needs_data
def test_tasks_are_written_with_their_curves(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        training_data, "parts", lambda *_: {"history": ["126026"], "validation": []}
    )
    command = ["--to", str(tmp_path), "--families", "lcbench", "--count", "20", "--curves"]
    assert training_data.main([*command, "--data", str(DATA)]) == 0
    (task,) = Archive(tmp_path / "history")
    assert len(task.trials) == 20
    for trial in task.trials:
        assert [step for step, _ in trial.curve] == list(range(1, 53))
        assert trial.curve[-1][1] == pytest.approx(trial.value, rel=1e-5)


def test_missing_weights_are_reported_with_the_command_that_makes_them(tmp_path, capsys) -> None:
    assert curves.main(["--weights", str(tmp_path / "none")]) == 2
    assert "metahpo train curves" in capsys.readouterr().err
