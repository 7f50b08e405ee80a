"""A meta-training as one safetensors file, and back: a resumed one goes on bit for bit."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metahpo.optim.rule import Moments
from metahpo.optim.schedule import LossStatistics
from metahpo.train import TrainingError

if TYPE_CHECKING:
    from metahpo.train.meta import MetaTraining, Particle


class CheckpointError(TrainingError):
    """A checkpoint cannot be read, or is of another meta-training."""


def save(run: MetaTraining, path: Path) -> None:
    """Writes under a temporary name and moves into place."""
    state = run.state
    tensors = {
        **_under("weights", state.weights),
        **_under("adam.mean", state.adam.mean),
        **_under("adam.square", state.adam.square),
    }
    for place, particle in enumerate(state.particles):
        tensors |= _under(f"particle{place}", _tensors_of(particle))
    told = {
        "settings": asdict(run.settings),
        "meta_step": state.meta_step,
        "seconds": state.seconds,
        "best": state.best,
        "count": state.adam.count,
        "particles": [{"seed": p.seed, "step": p.training.step} for p in state.particles],
    }
    temporary = path.with_suffix(".tmp")
    whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(whole, temporary, {"state": json.dumps(told)})
    temporary.replace(path)


def restore(run: MetaTraining, path: Path) -> None:
    """Puts a new meta-training into the state of a checkpoint.

    Raises:
        CheckpointError: The file cannot be read, or its settings are others.
    """
    try:
        with safe_open(path, "pt", device=str(run.device)) as file:
            told = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no checkpoint of a meta-training: {error}") from None
    _check_settings(run, told["settings"], path)
    state = run.state
    state.weights = _below("weights", tensors)
    state.adam.mean = _below("adam.mean", tensors)
    state.adam.square = _below("adam.square", tensors)
    state.adam.count = told["count"]
    state.meta_step, state.seconds, state.best = (
        told["meta_step"], told["seconds"], told["best"],
    )  # fmt: skip
    for place, saved in enumerate(told["particles"]):
        particle = run.start_particle(saved["seed"])
        _fill(particle, _below(f"particle{place}", tensors), saved["step"])
        state.particles[place] = particle


def _check_settings(run: MetaTraining, settings: dict[str, object], path: Path) -> None:
    wanted = asdict(run.settings)
    other = [name for name, value in wanted.items() if settings.get(name) != value]
    if other:
        told = ", ".join(f"{name} {settings.get(name)}" for name in other)
        raise CheckpointError(
            f"{path} has other settings ({told}); repeat them, or choose another folder"
        )


def _tensors_of(particle: Particle) -> dict[str, Tensor]:
    training = particle.training
    losses = training.losses._asdict() if training.losses is not None else {}
    return {
        "generator": particle.generator.get_state(),
        "first_loss": particle.first_loss,
        **_under("accumulated", particle.accumulated),
        **_under("losses", losses),
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
        Moments(**_below(f"moments.{n}", tensors)) for n in range(len(training.moments))
    ]
    if training.losses is not None:
        training.losses = LossStatistics(**_below("losses", tensors))
    particle.first_loss = tensors["first_loss"]
    particle.accumulated = _below("accumulated", tensors)
    particle.generator.set_state(tensors["generator"].to(torch.device("cpu")))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
