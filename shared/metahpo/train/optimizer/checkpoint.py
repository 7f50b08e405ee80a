"""Checkpoints of the optimizer's meta-training, from which it resumes bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metahpo.optim.rule import Moments
from metahpo.optim.schedule import LossStatistics
from metahpo.surrogate.networks.network_file import check_values
from metahpo.train.files import (
    add_prefix,
    check_settings,
    check_tensors,
    checked_count,
    checked_seconds,
    read_checkpoint,
    restoring,
    with_prefix,
    write_checkpoint,
)
from metahpo.train.optimizer.meta_training import MetaTraining, Particle

# Names of the fields of ``LossStatistics`` in the file.
LOSS_KEYS = ("seen", "fast", "slow", "square")


def save(run: MetaTraining, path: Path) -> None:
    """Write the state of a meta-training, atomically."""
    state = run.state
    tensors = {
        **add_prefix("weights", state.weights),
        **add_prefix("adam.mean", state.adam.mean),
        **add_prefix("adam.square", state.adam.square),
    }
    for place, particle in enumerate(state.particles):
        tensors |= add_prefix(f"particle{place}", _particle_tensors(particle))
    metadata = {
        "settings": asdict(run.settings),
        "meta_step": state.meta_step,
        "seconds": state.seconds,
        "best": state.best,
        "count": state.adam.count,
        "particles": [{"seed": p.seed, "step": p.training.step} for p in state.particles],
    }
    write_checkpoint(path, tensors, metadata)


def restore(run: MetaTraining, path: Path) -> None:
    """Set a new meta-training to the state of a checkpoint.

    Raises:
        CheckpointError: The file cannot be read, or has different settings.
    """
    tensors, metadata = read_checkpoint(path, run.device)
    with restoring(path):
        check_settings(path, asdict(run.settings), metadata["settings"])
        _restore(run, tensors, metadata)


def _restore(
    run: MetaTraining, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    state = run.state
    weights, mean, square = (
        with_prefix(prefix, tensors) for prefix in ("weights", "adam.mean", "adam.square")
    )
    for found in (weights, mean, square):
        check_tensors(state.weights, found)
        check_values(found)
    state.weights, state.adam.mean, state.adam.square = weights, mean, square
    state.adam.count = {name: checked_count(metadata["count"][name]) for name in state.adam.count}
    state.meta_step = checked_count(metadata["meta_step"])
    state.seconds, state.best = checked_seconds(metadata["seconds"]), float(metadata["best"])
    if len(metadata["particles"]) != len(state.particles):
        raise ValueError(f"{len(metadata['particles'])} inner trainings")
    for place, saved in enumerate(metadata["particles"]):
        particle = run.start_particle(checked_count(saved["seed"]))
        step = checked_count(saved["step"])
        _restore_particle(particle, with_prefix(f"particle{place}", tensors), step, state.weights)
        state.particles[place] = particle


def _particle_tensors(particle: Particle) -> dict[str, Tensor]:
    training = particle.training
    losses: dict[str, Tensor] = {}
    if training.losses is not None:
        losses = dict(zip(LOSS_KEYS, training.losses, strict=True))
    return {
        "generator": particle.generator.get_state(),
        "first_loss": particle.first_loss,
        **add_prefix("accumulated", particle.accumulated),
        **add_prefix("losses", losses),
        **{f"parameter.{n}": p for n, p in enumerate(training.parameters)},
        **{
            f"moments.{n}.{name}": part
            for n, moments in enumerate(training.moments)
            for name, part in moments._asdict().items()
        },
    }


def _restore_particle(
    particle: Particle, tensors: dict[str, Tensor], step: int, weights: Mapping[str, Tensor]
) -> None:
    training = particle.training
    accumulated = with_prefix("accumulated", tensors)
    # A new training of the same seed has all the others in the same shapes.
    rest = {n: t for n, t in tensors.items() if not n.startswith("accumulated.")}
    check_tensors(_particle_tensors(particle), rest)
    for name, tensor in accumulated.items():
        if tensor.shape[1:] != weights[name].shape:
            raise ValueError(f"tensor accumulated.{name} is {tuple(tensor.shape)}")
    training.step = step
    training.parameters = [tensors[f"parameter.{n}"] for n in range(len(training.parameters))]
    training.moments = [
        Moments(**with_prefix(f"moments.{n}", tensors)) for n in range(len(training.moments))
    ]
    if training.losses is not None:
        losses = with_prefix("losses", tensors)
        training.losses = LossStatistics(*(losses[key] for key in LOSS_KEYS))
    particle.first_loss = tensors["first_loss"]
    particle.accumulated = accumulated
    particle.generator.set_state(tensors["generator"].to(torch.device("cpu")))
