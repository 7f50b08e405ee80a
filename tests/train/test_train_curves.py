"""Meta-training of the neural process over learning curves."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.distributions import FloatDistribution
from support.trainings import assert_same_tensors, interrupt

from metahpo import Archive, Task, Trial, cli
from metahpo.archive import ArchiveError
from metahpo.surrogate.curves.curve_predictions import load_weights
from metahpo.surrogate.curves.curve_process import CurveArchitecture
from metahpo.surrogate.curves.curve_values import seen_until
from metahpo.tasks.space import Space
from metahpo.tasks.task import TrialState
from metahpo.train import TrainingError
from metahpo.train.curves.curve_episodes import (
    ASKED,
    TARGETS,
    read_curves,
    recorded_curves,
    synthetic_curves,
)
from metahpo.train.curves.curve_measure import curve_quality, validation_batches
from metahpo.train.curves.curve_training import CurveSettings, CurveTraining, train_curves
from metahpo.train.files import CheckpointError
from metahpo.train.loop import CHECKPOINT, WEIGHTS
from metahpo.train.surrogate.recorded import RecordError

SMALL = CurveArchitecture(width=16, grid=32, dilations=(1, 4), bars=12)
BRIEF = CurveSettings(steps=4, curves=24, log_every=2, validate_every=4, warmup=2)
SPACE = Space({"lr": FloatDistribution(1e-4, 1.0, log=True), "x": FloatDistribution(0.0, 1.0)})


def task(name: str, count: int = 30, steps: int = 20) -> Task:
    """Exponential curves whose speed and end follow the configuration."""
    rng = np.random.default_rng(sum(map(ord, name)))
    points = rng.random((count, len(SPACE)))
    scale = rng.uniform(0.5, 2.0)
    progress = np.arange(1, steps + 1) / steps
    speed = 1.0 + 4.0 * points[:, :1]
    values = scale * (1.0 + points[:, 1:]) * (1.0 - np.exp(-speed * progress))
    curves = [tuple((float(s), float(v)) for s, v in enumerate(row, 1)) for row in values]
    trials = tuple(
        Trial(configuration, curve[-1][1], curve=curve)
        for configuration, curve in zip(SPACE.decode(points), curves, strict=True)
    )
    return Task(name, SPACE, trials)


def archive(folder: Path, names: str, count: int) -> Path:
    Archive(folder / names).extend([task(f"{names}/{i}") for i in range(count)])
    return folder / names


# ---- episodes ------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [0, 1, 10])
def test_synthetic_studies_are_whole_and_follow_their_generator(context: int) -> None:
    one, two, other = (
        synthetic_curves(8, context, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(one.targets.nan_to_num(), two.targets.nan_to_num())
    assert one.curves.progress.shape != other.curves.progress.shape or not torch.equal(
        one.curves.progress.nan_to_num(), other.curves.progress.nan_to_num()
    )
    assert one.targets.shape == (8, context + TARGETS, ASKED)
    progress = one.curves.progress
    assert bool((progress.diff().nan_to_num(0.0) >= 0).all())
    assert torch.equal(progress.isnan(), one.curves.values.isnan())
    assert bool(((one.now > 0) & (one.now < 1)).all())
    assert float(one.targets[..., 0].isfinite().float().mean()) > 0.8


def test_the_prior_has_curves_of_all_kinds() -> None:
    """Shares of 1,200 studies; each lies more than five standard errors from its bound."""
    made = synthetic_curves(1200, 4, torch.Generator().manual_seed(0))
    values, last = made.curves.values, made.curves.progress.isfinite().sum(-1) - 1
    final = values.gather(-1, last.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    first, best = values[..., 0], values.nan_to_num(-torch.inf).amax(-1)
    span = best - values.nan_to_num(torch.inf).amin(-1)
    rises = ((final - first) > 0.5 * span).float().mean()
    falls = ((best - final) > 0.5 * span).float().mean()
    assert 0.4 < rises < 0.9
    assert 0.05 < falls < 0.4
    # Curves of a study cross between an early report and the end.
    early = values[..., 3]
    order = torch.sign(early[:, :1] - early[:, 1:]) * torch.sign(final[:, :1] - final[:, 1:])
    assert 0.05 < (order == -1).float().mean() < 0.4


def test_recorded_studies_follow_their_generator(tmp_path: Path) -> None:
    records = read_curves(archive(tmp_path, "tasks", 3))
    one, two = (recorded_curves(records, 6, 4, np.random.default_rng(1)) for _ in range(2))
    assert torch.equal(one.targets.nan_to_num(), two.targets.nan_to_num())
    assert one.targets.shape == (6, 4 + TARGETS, ASKED)
    assert recorded_curves(records, 2, 50, np.random.default_rng(1)).context == 30 - TARGETS


def test_archives_with_short_missing_and_broken_curves(tmp_path: Path) -> None:
    good = task("good")
    broken = Trial(
        good.trials[0].configuration,
        None,
        TrialState.FAILED,
        curve=((2.0, 0.5), (1.0, float("nan")), (3.0, float("inf")), (4.0, 1.0)),
    )
    none = Trial(good.trials[0].configuration, 1.0)
    mixed = replace(good, trials=(*good.trials[:15], broken, none))
    Archive(tmp_path).extend([mixed, task("few", count=5), task("short", steps=3)])
    (record,) = read_curves(tmp_path)
    assert record.name == "good"
    assert record.values.shape == (16, 20)
    assert record.values[-1].isfinite().sum() == 2
    batch = recorded_curves([record], 4, 10, np.random.default_rng(0))
    assert batch.targets.shape[1] == 16


# ---- training ------------------------------------------------------------------------------


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
    with pytest.raises(CheckpointError, match="no checkpoint"):
        train_curves(tmp_path, longer, architecture=SMALL)


def test_it_learns_curves_it_has_not_seen(tmp_path: Path) -> None:
    """Far better than keeping the last value with the best Gaussian spread in own units."""
    records = read_curves(archive(tmp_path, "tasks", 5))
    batches = validation_batches(read_curves(archive(tmp_path, "others", 2)), 5)
    training = CurveSettings(steps=80, curves=44, rate=6e-3, warmup=10, synthetic=0.0)
    run = CurveTraining(training, records, architecture=SMALL)
    before = curve_quality(run.averaged_network(), batches)
    for _ in range(training.steps):
        run.advance()
    after = curve_quality(run.averaged_network(), batches)
    gains = []
    for batch in batches:
        seen = seen_until(batch.curves, batch.now, batch.context)
        gains.append(seen.relative(batch.targets)[:, batch.context :, 0].flatten())
    gained = torch.cat(gains)
    last_value = -0.5 * float((2 * torch.pi * torch.e * gained.square().mean()).log())
    assert after.log_density > last_value + 0.5
    assert after.log_density > before.log_density + 0.5
    assert after.error < 0.5 * float(gained.abs().mean())


def test_the_command_trains_measures_and_goes_on(tmp_path: Path) -> None:
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


def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks, out = archive(tmp_path, "tasks", 2), tmp_path / "out"
    with pytest.raises(TrainingError, match="--archive"):
        train_curves(out, BRIEF)
    with pytest.raises(TrainingError, match="from 0 to 1"):
        train_curves(out, replace(BRIEF, synthetic=-1.0))
    with pytest.raises(TrainingError, match="tasks/0 is both"):
        train_curves(out, BRIEF, archive=tasks, validation=tasks)
    with pytest.raises(ArchiveError):
        train_curves(out, BRIEF, archive=tmp_path / "nothing")
    Archive(tmp_path / "bare").add(Task("bare", SPACE, (Trial({}, 1.0),)))
    with pytest.raises(RecordError, match="4 reports"):
        train_curves(out, BRIEF, archive=tmp_path / "bare")
    command = ["train", "curves", "--to", str(out), "--synthetic", "1"]
    assert cli.main([*command, "--device", "toaster"]) != 0
    assert "toaster" in capsys.readouterr().err
