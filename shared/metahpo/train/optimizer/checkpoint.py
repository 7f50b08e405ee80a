"""The optimizer's meta-training as a checkpoint, and back: a resumed one goes on bit for bit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metahpo.optim.rule import Moments
from metahpo.optim.schedule import LossStatistics
from metahpo.train.files import below, check_settings, read_checkpoint, under, write_checkpoint

if TYPE_CHECKING:
    from metahpo.train.optimizer.optimizer_training import MetaTraining, Particle


def save(run: MetaTraining, path: Path) -> None:
    """Writes under a temporary name and moves into place."""
    state = run.state
    tensors = {
        **under("weights", state.weights),
        **under("adam.mean", state.adam.mean),
        **under("adam.square", state.adam.square),
    }
    for place, particle in enumerate(state.particles):
        tensors |= under(f"particle{place}", _tensors_of(particle))
    told = {
        "settings": asdict(run.settings),
        "meta_step": state.meta_step,
        "seconds": state.seconds,
        "best": state.best,
        "count": state.adam.count,
        "particles": [{"seed": p.seed, "step": p.training.step} for p in state.particles],
    }
    write_checkpoint(path, tensors, told)


def restore(run: MetaTraining, path: Path) -> None:
    """Puts a new meta-training into the state of a checkpoint.

    Raises:
        CheckpointError: The file cannot be read, or its settings are others.
    """
    tensors, told = read_checkpoint(path, run.device)
    check_settings(path, asdict(run.settings), told["settings"])
    state = run.state
    state.weights = below("weights", tensors)
    state.adam.mean = below("adam.mean", tensors)
    state.adam.square = below("adam.square", tensors)
    state.adam.count = told["count"]
    state.meta_step, state.seconds, state.best = (
        told["meta_step"], told["seconds"], told["best"],
    )  # fmt: skip
    for place, saved in enumerate(told["particles"]):
        particle = run.start_particle(saved["seed"])
        _fill(particle, below(f"particle{place}", tensors), saved["step"])
        state.particles[place] = particle


def _tensors_of(particle: Particle) -> dict[str, Tensor]:
    training = particle.training
    losses = training.losses._asdict() if training.losses is not None else {}
    return {
        "generator": particle.generator.get_state(),
        "first_loss": particle.first_loss,
        **under("accumulated", particle.accumulated),
        **under("losses", losses),
        **{f"parameter.{n}": p for n, p in enumerate(training.parameters)},
        **{
            f"moments.{n}.{name}": part
            for n, moments in enumerate(training.moments)
            for name, part in moments._asdict().items()
        },
    }


def _fill(particle: Particle, tensors: dict[str, Tensor], step: int) -> None:
    training = particle.training
    training.step = step
    training.parameters = [tensors[f"parameter.{n}"] for n in range(len(training.parameters))]
    training.moments = [
        Moments(**below(f"moments.{n}", tensors)) for n in range(len(training.moments))
    ]
    if training.losses is not None:
        training.losses = LossStatistics(**below("losses", tensors))
    particle.first_loss = tensors["first_loss"]
    particle.accumulated = below("accumulated", tensors)
    particle.generator.set_state(tensors["generator"].to(torch.device("cpu")))
