"""Meta-training of the learned optimizer."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from metahpo import cli
from metahpo.optim import initial_weights, load_weights
from metahpo.train.files import CheckpointError
from metahpo.train.optimizer.meta_training import MetaTraining
from metahpo.train.optimizer.objective import objective
from metahpo.train.optimizer.optimizer_settings import Settings
from metahpo.train.optimizer.optimizer_training import save_progress, train_optimizer

TINY = Settings(
    mixture_steps=0,
    rule_steps=2,
    schedule_steps=2,
    trainings=2,
    pairs=2,
    truncation=3,
    shortest=5,
    longest=8,
    validate_every=4,
    validation_steps=2,
)


def test_a_resumed_meta_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_optimizer(whole, TINY)
    run = MetaTraining(TINY)
    parts.mkdir()
    run.advance()
    run.advance()
    save_progress(run, parts, [])
    run.advance()  # Lost with the process.
    best = train_optimizer(parts, TINY)
    one, two = (load_file(f / "checkpoint.safetensors") for f in (whole, parts))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name
    assert load_weights(best).keys() == initial_weights().keys()
    last = load_weights(parts / "last.safetensors")
    assert all(torch.equal(last[name], one[f"weights.{name}"]) for name in last)


def test_the_log_has_one_row_per_meta_step_and_a_finished_training_adds_none(
    tmp_path: Path,
) -> None:
    train_optimizer(tmp_path, TINY)
    train_optimizer(tmp_path, TINY)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["meta_step"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["phase"] for row in rows] == ["rule", "rule", "schedule", "schedule"]
    assert rows[-1]["validation"]
    assert not rows[0]["validation"]


def test_a_checkpoint_with_other_settings_is_refused(tmp_path: Path) -> None:
    train_optimizer(tmp_path, TINY)
    with pytest.raises(CheckpointError, match="pairs 2"):
        train_optimizer(tmp_path, replace(TINY, pairs=3))
    (tmp_path / "checkpoint.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        train_optimizer(tmp_path, TINY)


def test_each_phase_changes_only_its_own_weights() -> None:
    run = MetaTraining(TINY)
    start = run.state.weights
    run.advance()
    after = run.state.weights
    assert all(torch.equal(after[n], start[n]) for n in start if n.startswith("schedule."))
    assert not torch.equal(after["step.log_size"], start["step.log_size"])
    run.advance()
    frozen = dict(run.state.weights)
    run.advance()
    after = run.state.weights
    assert all(
        torch.equal(after[n], frozen[n]) for n in frozen if n.startswith(("rule.", "step."))
    )
    assert not torch.equal(after["schedule.log_shape"], frozen["schedule.log_shape"])


@pytest.mark.parametrize(
    ("phase", "learned"),
    [("mixture", ("rule.mix", "step.")), ("rule", ("rule.", "step.")), ("schedule", "schedule.")],
)
def test_a_meta_training_may_consist_of_one_phase(phase: str, learned: tuple[str, ...]) -> None:
    none = {"mixture_steps": 0, "rule_steps": 0, "schedule_steps": 0}
    run = MetaTraining(replace(TINY, **{**none, f"{phase}_steps": 3}))
    start = run.state.weights
    for _ in range(3):
        assert run.rate > 0
        run.advance()
    changed = {name for name in start if not torch.equal(run.state.weights[name], start[name])}
    assert changed == {name for name in start if name.startswith(learned)}


def test_the_meta_learning_rate_falls_over_each_phase() -> None:
    settings = replace(TINY, mixture_steps=1)
    run = MetaTraining(settings)
    rates = []
    for run.state.meta_step in range(settings.meta_steps):
        rates.append(run.rate)
    mixture, rule, schedule = settings.mixture_rate, settings.rule_rate, settings.schedule_rate
    assert rates == pytest.approx([mixture, rule, rule / 2, schedule, schedule / 2])


def test_trainings_with_gradient_noise_count_more() -> None:
    found = []
    for stability in (0.0, 3.0):
        run = MetaTraining(replace(TINY, stability=stability, trainings=1))
        [particle] = run.state.particles
        particle.training.problem = replace(particle.training.problem, gradient_noise=0.5)
        run.advance()
        found.append(run.state.adam.mean["step.log_size"])
    torch.testing.assert_close(found[1], 4 * found[0])


def test_the_weights_of_the_objective_decide_between_trainings() -> None:
    progress = torch.linspace(0, 0.9, 10)
    early = torch.tensor([1.0, 0.2] + [0.2] * 8)[:, None]
    late = torch.tensor([1.0] + [0.4] * 8 + [0.0])[:, None]
    none = replace(TINY, final=0.0, target=0.0)

    def better(settings: Settings) -> bool:
        """Whether the early one is."""
        return bool(
            objective(settings, early, progress, None) < objective(settings, late, progress, None)
        )

    assert better(none)
    assert better(replace(none, target=10.0))
    assert not better(replace(none, final=10.0))
    gap = objective(none, early, progress, torch.tensor([0.9]))
    assert gap > objective(none, early, progress, torch.tensor([0.2]))
    endless = objective(TINY, torch.full((10, 1), torch.nan), progress, torch.tensor([torch.inf]))
    assert torch.isfinite(endless).all()
    assert endless > objective(TINY, early, progress, torch.tensor([1.0]))


@pytest.mark.slow
def test_the_command_trains_and_reports_wrong_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--mixture-steps", "0", "--rule-steps", "1", "--schedule-steps", "1"]
    sizes += ["--trainings", "1", "--pairs", "1", "--truncation", "2", "--longest", "4"]
    command = ["train", "optimizer", "--to", str(tmp_path / "out"), *sizes]
    assert cli.main(command) == 0
    assert load_weights(tmp_path / "out" / "best.safetensors")
    assert cli.main([*command, "--seed", "1"]) == 1
    assert "different settings (seed 0)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*command, "--rule-steps", "-1"])
    assert "must be 0 or more" in capsys.readouterr().err
    assert cli.main([*command, "--rule-steps", "0", "--schedule-steps", "0"]) == 1
    assert "no meta-steps" in capsys.readouterr().err
    assert cli.main([*command, "--device", "nowhere"]) == 1
    assert "device nowhere cannot be used" in capsys.readouterr().err
    assert cli.main([*command, "--data", str(tmp_path)]) == 1
    assert "does not contain mnist" in capsys.readouterr().err
