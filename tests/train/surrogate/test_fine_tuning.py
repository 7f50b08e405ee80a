"""Fine-tuning on an archive: which tasks it uses, and which weights it keeps."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.recorded_tasks import SMALL, archive, bowl
from support.trainings import assert_same_tensors, interrupt

from metahpo import Archive, cli
from metahpo.surrogate.neural import pretrained
from metahpo.surrogate.neural.neural_process import NeuralProcess
from metahpo.surrogate.neural.pretrained import (
    WeightsError,
    default_weights,
    load_weights,
    save_weights,
)
from metahpo.train import TrainingError
from metahpo.train.files import CheckpointError
from metahpo.train.loop import CHECKPOINT, WEIGHTS
from metahpo.train.surrogate.fine_tuning import (
    DEFAULT_SETTINGS,
    SIGNIFICANCE_LEVEL,
    TUNED,
    Outcome,
    split_tasks,
    tune_surrogate,
)
from metahpo.train.surrogate.measure import (
    TRIALS,
    held_out,
    prior_log_density,
    quality,
    task_log_densities,
)
from metahpo.train.surrogate.surrogate_training import SurrogateTraining
from metahpo.train.surrogate.task_families import read_families

OPTIMA = [0.1, 0.2, 0.3, 0.4, 0.5, 0.15, 0.25, 0.35]


BRIEF = replace(DEFAULT_SETTINGS, steps=4, budget=150, warmup=2, log_every=2)


def weights(folder: Path) -> Path:
    torch.manual_seed(0)
    save_weights(NeuralProcess(SMALL), folder / "given.safetensors", note="a model card")
    return folder / "given.safetensors"


def test_held_out_tasks_are_never_tuned_on(tmp_path: Path) -> None:
    folder = archive(tmp_path, "tasks", OPTIMA)
    Archive(folder).add(bowl("short", 0.3, count=25))
    families = read_families(folder)
    for seed in range(5):
        tuned, held_out_families = split_tasks(families, seed)
        one, other = (
            {t.name for f in part for t in f.tasks} for part in (tuned, held_out_families)
        )
        assert "short" in one
        assert len(other) == 3
        assert not one & other
        assert len(one | other) == len(OPTIMA) + 1
    assert {t.name for t in split_tasks(families, 0)[1][0].tasks} != {
        t.name for t in split_tasks(families, 1)[1][0].tasks
    }


def test_log_densities_of_tasks_average_to_the_quality(tmp_path: Path) -> None:
    families = read_families(archive(tmp_path, "tasks", OPTIMA[:3]))
    torch.manual_seed(0)
    network, studies = NeuralProcess(SMALL).eval(), list(held_out(families, families))
    of_tasks, of_all = task_log_densities(network, studies), quality(network, studies)
    assert of_tasks.shape == (3, len(TRIALS))
    expected = [of_all[count].log_density for count in TRIALS]
    assert np.allclose(of_tasks.mean(axis=0), expected, atol=1e-5)


def test_tuned_weights_that_predict_better_are_used(tmp_path: Path) -> None:
    """The given weights are untrained: anything learned from bowls is better on other bowls."""
    given, folder = weights(tmp_path), tmp_path / "out"
    tasks = archive(tmp_path, "tasks", OPTIMA)
    settings = replace(DEFAULT_SETTINGS, steps=40, budget=300, rate=3e-3, synthetic=0.0)
    outcome = tune_surrogate(folder, settings, tasks, given)
    assert outcome.accepted
    assert outcome.gain > 0.2
    assert "are used" in str(outcome)
    assert (folder / "pretrained.safetensors").read_bytes() == given.read_bytes()
    tuned = (folder / "tuned.safetensors").read_bytes()
    assert (folder / "weights.safetensors").read_bytes() == tuned != given.read_bytes()
    record = json.loads((folder / "outcome.json").read_text())
    assert record["weights"] == "tuned"
    assert set(record["before"]) == set(outcome.tasks)
    families, others = split_tasks(read_families(tasks), settings.seed)
    recomputed = task_log_densities(
        load_weights(outcome.weights), list(held_out(families, others))
    )
    assert np.allclose(recomputed, outcome.after, atol=1e-5)


def test_tuned_weights_that_are_no_better_are_not_used(tmp_path: Path) -> None:
    given, folder = weights(tmp_path), tmp_path / "out"
    outcome = tune_surrogate(
        folder, replace(BRIEF, rate=0.0), archive(tmp_path, "tasks", OPTIMA), given
    )
    assert outcome.gain == pytest.approx(0.0, abs=1e-6)
    assert outcome.prior[0] == pytest.approx(outcome.prior[1], abs=1e-6)
    assert outcome.prior[0] == prior_log_density(load_weights(given), BRIEF.seed)
    assert "pretrained weights are kept" in str(outcome)
    assert (folder / "weights.safetensors").read_bytes() == given.read_bytes()
    assert (folder / "tuned.safetensors").exists()


@pytest.mark.parametrize("tasks", [3, 12])
def test_weights_that_are_no_better_are_accepted_at_the_significance_level(tasks: int) -> None:
    """4,000 draws of differences about zero: five standard errors (1 in a million)."""
    rng = np.random.default_rng(0)
    before, after = rng.standard_normal((2, 4000, tasks, 1))
    accepted = [
        Outcome(("",) * tasks, *pair, prior=(0.0, 0.0), weights=Path()).accepted
        for pair in zip(before, after, strict=True)
    ]
    assert (
        abs(np.mean(accepted) - SIGNIFICANCE_LEVEL)
        < 5 * (SIGNIFICANCE_LEVEL * (1 - SIGNIFICANCE_LEVEL) / 4000) ** 0.5
    )


def test_a_resumed_fine_tuning_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    given, tasks = weights(tmp_path), archive(tmp_path, "tasks", OPTIMA)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    tune_surrogate(whole, BRIEF, tasks, given)
    families, _ = split_tasks(read_families(tasks), BRIEF.seed)
    interrupt(SurrogateTraining(BRIEF, families, start=load_weights(given)), parts, 1)
    tune_surrogate(parts, BRIEF, tasks, given)
    again = tune_surrogate(parts, BRIEF, tasks, given)
    assert_same_tensors(whole, parts, CHECKPOINT, TUNED, WEIGHTS)
    record = json.loads((whole / "outcome.json").read_text())
    assert list(record["after"].values()) == again.after.tolist()


def test_a_folder_cannot_be_reused_with_other_weights(tmp_path: Path) -> None:
    given, tasks = weights(tmp_path), archive(tmp_path, "tasks", OPTIMA)
    tune_surrogate(tmp_path / "out", BRIEF, tasks, given)
    save_weights(NeuralProcess(SMALL), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="pretrained"):
        tune_surrogate(tmp_path / "out", BRIEF, tasks, tmp_path / "other.safetensors")


def test_the_command_tunes_and_reports_which_weights_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "surrogate", "--to", str(tmp_path / "out"), "--archive",
               str(archive(tmp_path, "tasks", OPTIMA)), "--from-pretrained",
               str(weights(tmp_path)), "--steps", "2", "--budget", "150"]  # fmt: skip
    assert cli.main(command) == 0
    assert "3 held-out tasks" in capsys.readouterr().out
    assert cli.main([*command, "--synthetic", "0.5"]) == 1
    assert "synthetic 0.25" in capsys.readouterr().err


def test_wrong_arguments_are_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    few, given = archive(tmp_path, "tasks", OPTIMA[:4]), weights(tmp_path)
    with pytest.raises(TrainingError, match=r"6 tasks of 30 trials .* has 4"):
        tune_surrogate(tmp_path / "out", BRIEF, few, given)
    with pytest.raises(TrainingError, match="from 0 to 1"):
        tune_surrogate(tmp_path / "out", replace(BRIEF, synthetic=2.0), few, given)
    (tmp_path / "broken.safetensors").write_text("no weights")
    with pytest.raises(TrainingError, match="does not contain weights"):
        tune_surrogate(tmp_path / "out", BRIEF, few, tmp_path / "broken.safetensors")
    monkeypatch.setattr(pretrained, "SHIPPED", "none.safetensors")
    command = ["train", "surrogate", "--to", str(tmp_path / "out"), "--from-pretrained"]
    for further, message in (
        ([], "--archive"),
        (["--archive", str(few)], "ships without weights"),
        (["--archive", str(few), "--inner-steps", "3"], "--inner-steps"),
        (["--archive", str(few), "--validation", str(few)], "--validation"),
    ):
        assert cli.main([*command, *further]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_weights_of_the_package_are_found_if_it_has_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "SHIPPED", str(tmp_path / "given.safetensors"))
    with pytest.raises(WeightsError, match="metahpo train surrogate"):
        default_weights()
    path = weights(tmp_path)
    assert default_weights() == path
    assert load_weights(default_weights()).architecture == SMALL
