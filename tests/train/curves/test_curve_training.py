"""Meta-training of the network over learning curves."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.curve_tasks import BRIEF, SMALL, SPACE, archive
from support.trainings import assert_same_tensors, interrupt

from metahpo import Archive, Task, Trial, cli
from metahpo.archive import ArchiveError
from metahpo.surrogate.curves.curve_predictions import load_weights
from metahpo.surrogate.curves.curve_process import CurveArchitecture
from metahpo.surrogate.curves.curve_values import observed_until
from metahpo.train import TrainingError
from metahpo.train.curves.curve_measure import curve_quality, validation_batches
from metahpo.train.curves.curve_training import CurveSettings, CurveTraining, train_curves
from metahpo.train.curves.recorded_curves import read_curves
from metahpo.train.files import CheckpointError
from metahpo.train.loop import CHECKPOINT, WEIGHTS
from metahpo.train.surrogate.task_families import RecordError


def test_a_resumed_meta_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    tasks = archive(tmp_path, "tasks", 3)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_curves(whole, BRIEF, archive=tasks, architecture=SMALL)
    interrupt(CurveTraining(BRIEF, read_curves(tasks), architecture=SMALL), parts, 2)
    train_curves(parts, BRIEF, archive=tasks, architecture=SMALL)
    assert_same_tensors(whole, parts, CHECKPOINT, WEIGHTS)


def test_a_training_can_be_prolonged_but_not_changed(tmp_path: Path) -> None:
    synthetic = replace(BRIEF, synthetic=1.0)
    train_curves(tmp_path, synthetic, architecture=SMALL)
    longer = replace(synthetic, steps=6)
    train_curves(tmp_path, longer, architecture=SMALL)
    with (tmp_path / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4", "6"]
    with pytest.raises(CheckpointError, match=r"rate 0\.003"):
        train_curves(tmp_path, replace(longer, rate=0.5), architecture=SMALL)
    (tmp_path / "checkpoint.safetensors").write_text("nothing")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        train_curves(tmp_path, longer, architecture=SMALL)


def test_training_improves_predictions_of_held_out_curves(tmp_path: Path) -> None:
    """Far better than the last value with the best Gaussian spread, in own units."""
    records = read_curves(archive(tmp_path, "tasks", 5))
    batches = validation_batches(read_curves(archive(tmp_path, "others", 2)), 5)
    training = CurveSettings(steps=80, curves=44, rate=6e-3, warmup=10, synthetic=0.0)
    run = CurveTraining(training, records, architecture=SMALL)
    before = curve_quality(run.averaged_network(), batches)
    for _ in range(training.steps):
        run.advance()
    after = curve_quality(run.averaged_network(), batches)
    changes = []
    for batch in batches:
        observed = observed_until(batch.curves, batch.now, batch.context)
        changes.append(observed.relative(batch.targets)[:, batch.context :, 0].flatten())
    change = torch.cat(changes)
    last_value = -0.5 * float((2 * torch.pi * torch.e * change.square().mean()).log())
    assert after.log_density > last_value + 0.5
    assert after.log_density > before.log_density + 0.5
    assert after.error < 0.5 * float(change.abs().mean())


def test_the_command_trains_evaluates_and_resumes(tmp_path: Path) -> None:
    tasks, others = archive(tmp_path, "tasks", 2), archive(tmp_path, "others", 1)
    command = ["train", "curves", "--to", str(tmp_path / "out"), "--archive", str(tasks),
               "--validation", str(others), "--steps", "2", "--curves", "20"]  # fmt: skip
    assert cli.main(command) == 0
    assert cli.main(command) == 0
    with (tmp_path / "out" / "log.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["density_0"]) < 0 < float(row["error_10"])
    assert 0 <= float(row["covered_0.8"]) <= 1
    network = load_weights(tmp_path / "out" / "weights.safetensors")
    assert network.architecture == CurveArchitecture()
    assert sum(p.numel() for p in network.parameters()) < 500_000


def test_wrong_arguments_are_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, out = archive(tmp_path, "tasks", 2), tmp_path / "out"
    with pytest.raises(TrainingError, match="--archive"):
        train_curves(out, BRIEF)
    with pytest.raises(TrainingError, match="from 0 to 1"):
        train_curves(out, replace(BRIEF, synthetic=-1.0))
    with pytest.raises(TrainingError, match="tasks/0 is in both"):
        train_curves(out, BRIEF, archive=tasks, validation=tasks)
    with pytest.raises(ArchiveError):
        train_curves(out, BRIEF, archive=tmp_path / "nothing")
    Archive(tmp_path / "bare").add(Task("bare", SPACE, (Trial({}, 1.0),)))
    with pytest.raises(RecordError, match="4 reports"):
        train_curves(out, BRIEF, archive=tmp_path / "bare")
    command = ["train", "curves", "--to", str(out), "--synthetic", "1"]
    assert cli.main([*command, "--device", "toaster"]) != 0
    assert "toaster" in capsys.readouterr().err
