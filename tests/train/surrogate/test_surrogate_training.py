"""Meta-training of the neural surrogate: learning, resuming, Reptile, ablations."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from optuna.distributions import FloatDistribution
from support.recorded_tasks import BRIEF, SMALL, archive, bowl
from support.trainings import assert_same_tensors, interrupt

from metahpo import Archive
from metahpo.tasks.space import Space
from metahpo.train.files import CheckpointError, read_checkpoint, write_checkpoint
from metahpo.train.loop import CHECKPOINT, WEIGHTS
from metahpo.train.reptile import Reptile
from metahpo.train.surrogate.episodes import (
    without_past,
)
from metahpo.train.surrogate.measure import (
    TRIALS,
    held_out,
    quality,
    task_log_densities,
)
from metahpo.train.surrogate.surrogate_training import Settings, SurrogateTraining, train_surrogate
from metahpo.train.surrogate.task_families import read_families


@pytest.mark.parametrize("inner_steps", [0, 3])
def test_a_resumed_meta_training_equals_an_uninterrupted_one(
    tmp_path: Path, inner_steps: int
) -> None:
    # With Reptile, both the interruption and the end are within an inner training.
    brief = replace(BRIEF, inner_steps=inner_steps)
    tasks = archive(tmp_path, "tasks", [0.2, 0.4, 0.6])
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_surrogate(whole, brief, archive=tasks, architecture=SMALL)
    interrupt(SurrogateTraining(brief, read_families(tasks), architecture=SMALL), parts, 2)
    train_surrogate(parts, brief, archive=tasks, architecture=SMALL)
    assert_same_tensors(whole, parts, CHECKPOINT, WEIGHTS)


def test_a_training_can_be_prolonged_but_not_changed(tmp_path: Path) -> None:
    train_surrogate(tmp_path, replace(BRIEF, synthetic=1.0), architecture=SMALL)
    longer = replace(BRIEF, synthetic=1.0, steps=6)
    train_surrogate(tmp_path, longer, architecture=SMALL)
    with (tmp_path / "log.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4", "6"]
    with pytest.raises(CheckpointError, match=r"rate 0\.001"):
        train_surrogate(tmp_path, replace(longer, rate=0.5), architecture=SMALL)


def test_a_checkpoint_without_newer_settings_can_be_resumed(tmp_path: Path) -> None:
    run = SurrogateTraining(replace(BRIEF, synthetic=1.0), architecture=SMALL)
    run.advance()
    run.save(tmp_path / "checkpoint.safetensors")
    tensors, metadata = read_checkpoint(tmp_path / "checkpoint.safetensors", torch.device("cpu"))
    del metadata["pretrained"], metadata["architecture"]["past"]
    del metadata["settings"]["inner_steps"]
    write_checkpoint(tmp_path / "checkpoint.safetensors", tensors, metadata)
    run = SurrogateTraining(replace(BRIEF, synthetic=1.0), architecture=SMALL)
    run.restore(tmp_path / "checkpoint.safetensors")
    assert run.step == 1


def test_training_improves_predictions_of_held_out_tasks(tmp_path: Path) -> None:
    """Bowls with their optimum somewhere in the lower half, predicted by a past of such bowls."""
    tasks = archive(tmp_path, "tasks", [0.1, 0.2, 0.3, 0.4, 0.5])
    others = archive(tmp_path, "others", [0.15, 0.35])
    families = read_families(tasks)
    studies = list(held_out(families, read_families(others)))
    training = Settings(steps=150, budget=400, rate=3e-3, warmup=20, synthetic=0.0)
    sizes = replace(SMALL, width=32, layers=2)
    run = SurrogateTraining(training, families, architecture=sizes)
    before = quality(run.averaged_network(), studies)
    for _ in range(training.steps):
        run.advance()
    after = quality(run.averaged_network(), studies)
    assert after[0].rank_correlation > 0.5 > before[0].rank_correlation
    gained = [after[n].log_density - before[n].log_density for n in TRIALS]
    assert np.mean(gained) > 0.2


# ---- Reptile -------------------------------------------------------------------------------


def test_reptile_moves_by_its_rate_and_resets_the_network() -> None:
    parameter = torch.tensor([1.0, -1.0])
    reptile = Reptile([("p", parameter)], 2)
    parameter += 1.0
    reptile.after_step(1, [("p", parameter)], 0.25)
    assert torch.equal(parameter, torch.tensor([2.0, 0.0]))
    assert torch.equal(reptile.weights[0][1], torch.tensor([1.0, -1.0]))
    parameter += 3.0
    reptile.after_step(2, [("p", parameter)], 0.25)
    assert torch.equal(parameter, torch.tensor([2.0, 0.0]))
    assert torch.equal(reptile.weights[0][1], parameter)


def test_an_inner_training_uses_one_family_and_only_outer_weights_are_averaged(
    tmp_path: Path,
) -> None:
    tasks = archive(tmp_path, "tasks", [0.2, 0.4, 0.6])
    for i in range(3):
        task = bowl(f"other/{i}", 0.3)
        space = Space({**task.space.distributions, "more": FloatDistribution(0.0, 1.0)})
        trials = [replace(t, configuration={**t.configuration, "momentum": 0.5, "more": 0.1 * i})
                  for t in task.trials]  # fmt: skip
        Archive(tasks).add(replace(task, space=space, trials=tuple(trials)))
    families = read_families(tasks)
    settings = replace(BRIEF, steps=100, inner_steps=4, synthetic=0.3)
    run = SurrogateTraining(settings, families, architecture=SMALL)
    kinds = []
    for phase in range(12):
        batches = [run.batch(4 * phase + step) for step in range(4)]
        assert len({source for source, _ in batches}) == 1
        if batches[0][0] == "recorded":
            # Hyperparameters left out make spaces smaller, never larger.
            kinds.append(max(batch.queries.shape[-1] for _, batch in batches))
    assert set(kinds) == {4, 5}
    before = dict(run.reptile.weights if run.reptile else ())
    for _ in range(3):
        run.advance()
    for name, tensor in run.averaged.items():
        assert torch.equal(tensor, before[name])
    run.advance()
    assert any(not torch.equal(t, before[n]) for n, t in run.averaged_network().named_parameters())


# ---- ablations -----------------------------------------------------------------------------


def test_a_network_without_past_is_trained_and_evaluated_without_past_tasks(
    tmp_path: Path,
) -> None:
    families = read_families(archive(tmp_path, "tasks", [0.2, 0.4, 0.6]))
    run = SurrogateTraining(BRIEF, families, architecture=replace(SMALL, past=False))
    assert all(run.batch(step)[1].past is None for step in range(20))
    (studies,) = held_out(families, families)
    # Past tasks must not determine the unit either.
    found = task_log_densities(run.network, [studies])
    assert np.array_equal(found, task_log_densities(run.network, [without_past(studies)]))


def test_a_network_without_descriptions_gets_new_name_codes_each_time(tmp_path: Path) -> None:
    families = read_families(archive(tmp_path, "tasks", [0.2, 0.4, 0.6]))
    blind = replace(SMALL, descriptions=False)
    runs = [SurrogateTraining(replace(BRIEF, synthetic=0.0), families, architecture=a)
            for a in (SMALL, blind)]  # fmt: skip
    shares = []
    for run in runs:
        batches = [run.batch(step)[1] for step in range(10)]
        codes = torch.cat([batch.description.identities.flatten(0, 1) for batch in batches])
        shares.append(len(codes.unique(dim=0)) / len(codes))
    assert shares[0] < 0.7
    assert shares[1] > 0.99
