"""The command ``metahpo train surrogate``."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from support.recorded_tasks import BRIEF, archive

from metahpo import cli
from metahpo.archive import ArchiveError
from metahpo.surrogate.neural.neural_process import Architecture
from metahpo.surrogate.neural.pretrained import default_weights, load_weights
from metahpo.train import TrainingError
from metahpo.train.files import read_checkpoint
from metahpo.train.loop import CHECKPOINT, WEIGHTS
from metahpo.train.surrogate.calibration import calibration_studies
from metahpo.train.surrogate.surrogate_training import train_surrogate
from metahpo.train.surrogate.task_families import read_families


def test_the_command_trains_evaluates_and_resumes(tmp_path: Path) -> None:
    tasks = archive(tmp_path, "tasks", [0.2, 0.4, 0.6])
    others = archive(tmp_path, "others", [0.5])
    command = ["train", "surrogate", "--to", str(tmp_path / "out"), "--archive", str(tasks),
               "--validation", str(others), "--steps", "2", "--budget", "150"]  # fmt: skip
    assert cli.main(command) == 0
    assert cli.main(command) == 0
    with (tmp_path / "out" / "log.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["density_0"]) < 0
    assert 0 <= float(row["covered_0.8"]) <= 1
    network = load_weights(tmp_path / "out" / "weights.safetensors")
    assert network.architecture == Architecture()


def test_the_command_starts_from_given_weights_and_calibrates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, others = archive(tmp_path, "tasks", [0.2, 0.4]), archive(tmp_path, "others", [0.5])
    command = ["train", "surrogate", "--archive", str(tasks), "--steps", "1", "--budget", "150"]
    first, second = (tmp_path / name / WEIGHTS for name in ("first", "second"))
    assert cli.main([*command, "--to", str(first.parent)]) == 0
    again = [*command, "--to", str(second.parent), "--start", str(first), "--calibrate"]
    assert cli.main(again) == 1
    assert "--validation" in capsys.readouterr().err
    for _ in range(2):
        assert cli.main([*again, "--validation", str(others)]) == 0
    with safe_open(second, "pt") as file:
        power = float(file.metadata()["power"])
    checkpoint, _ = read_checkpoint(second.parent / CHECKPOINT, torch.device("cpu"))
    before, after = load_weights(first), load_weights(second)
    assert torch.equal(before.borders, after.borders)
    expected = power * checkpoint["average.head.weight"]
    torch.testing.assert_close(after.head.weight, expected, rtol=1e-3, atol=0)
    # Other initial weights make it a different training.
    other = [*command, "--to", str(second.parent), "--start", str(second)]
    assert cli.main(other) == 1
    assert cli.main([*command, "--to", str(tmp_path / "x"), "--start", "nothing"]) == 1
    assert "nothing" in capsys.readouterr().err


def test_weights_can_be_calibrated_without_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, others = archive(tmp_path, "tasks", [0.2, 0.4]), archive(tmp_path, "others", [0.5])
    command = ["train", "surrogate", "--archive", str(tasks), "--to"]
    first, second = (tmp_path / name / WEIGHTS for name in ("first", "second"))
    assert cli.main([*command, str(first.parent), "--steps", "0"]) == 1
    assert "step" in capsys.readouterr().err
    assert cli.main([*command, str(first.parent), "--from-pretrained", "--steps", "0"]) == 1
    assert "--steps" in capsys.readouterr().err
    command += [str(second.parent), "--start", "--steps", "0", "--calibrate"]
    assert cli.main([*command, "--validation", str(others)]) == 0
    with safe_open(second, "pt") as file:
        power = float(file.metadata()["power"])
    assert load_weights(second).learners == load_weights(default_weights()).learners
    before = load_weights(default_weights()).state_dict()
    after = load_weights(second).state_dict()
    for name in before:
        expected = power * before[name] if name.startswith("head.") else before[name]
        torch.testing.assert_close(after[name], expected, rtol=1e-3, atol=0)


def test_excluded_tasks_are_not_used_for_calibration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, others = archive(tmp_path, "tasks", [0.2, 0.4]), archive(tmp_path, "others", [0.5, 0.6])
    families, validation = read_families(tasks), read_families(others)
    for without, expected in (((), 2), (("others/1",), 1)):
        (studies,) = calibration_studies(families, validation, without, None)
        assert len(studies.values) == expected
    command = ["train", "surrogate", "--archive", str(tasks), "--validation", str(others)]
    command += ["--start", "--steps", "0", "--calibrate", "--without", "others/"]
    assert cli.main([*command, "--to", str(tmp_path / "out")]) == 1
    assert "leave out" in capsys.readouterr().err


def test_ablations_are_stored_with_the_weights(tmp_path: Path) -> None:
    command = ["train", "surrogate", "--synthetic", "1", "--steps", "1", "--budget", "150"]
    flags = ["--without-past", "--without-descriptions", "--inner-steps", "2"]
    assert cli.main([*command, *flags, "--to", str(tmp_path)]) == 0
    network = load_weights(tmp_path / "weights.safetensors")
    assert network.architecture == Architecture(past=False, descriptions=False)
    assert cli.main([*command, "--to", str(tmp_path)]) == 1


def test_wrong_arguments_are_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = archive(tmp_path, "tasks", [0.2, 0.4])
    with pytest.raises(TrainingError, match="--archive"):
        train_surrogate(tmp_path / "out", BRIEF)
    with pytest.raises(TrainingError, match="from 0 to 1"):
        train_surrogate(tmp_path / "out", replace(BRIEF, synthetic=1.5))
    with pytest.raises(TrainingError, match="tasks/0 is in both"):
        train_surrogate(tmp_path / "out", BRIEF, archive=tasks, validation=tasks)
    with pytest.raises(ArchiveError):
        train_surrogate(tmp_path / "out", BRIEF, archive=tmp_path / "nothing")
    command = ["train", "surrogate", "--to", str(tmp_path / "out"), "--synthetic", "1"]
    assert cli.main([*command, "--device", "toaster"]) != 0
    assert "toaster" in capsys.readouterr().err
