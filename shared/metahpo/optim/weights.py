"""The weights of rule and schedule: initial values, file format, checks."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from metahpo.atomic_file import replaced_whole
from metahpo.optim import rule, schedule

SHIPPED = "weights.safetensors"
# Bytes of a file, thousands of times those of one; and what trained weights never reach.
LARGEST_WEIGHTS_FILE, LARGEST_WEIGHT = 2**26, 1e6
# Positions among the candidates (see rule.py): the gradient, its fast momentum, and that momentum
# over the root of the second moment.
GRADIENT, MOMENTUM, ADAM = 0, 1, 4

# Independent of PyTorch's defaults.
FLOAT32_CPU: Any = {"dtype": torch.float32, "device": "cpu"}


class WeightsError(ValueError):
    """A file or dictionary does not contain weights for this version of the optimizer."""


def initial_weights(seed: int = 0) -> dict[str, Tensor]:
    """The starting point of meta-training: Muon and Adam with warm-up and decay.

    That is orthogonalised Nesterov momentum for matrices and normalised Adam for the rest. The
    last layers are zero, so that both networks initially contribute nothing; their hidden layers
    are random.

    Args:
        seed: Seed of the hidden layers.

    Returns:
        Tensors by name, without batch dimension.
    """
    generator = torch.Generator().manual_seed(seed)

    def layer(name: str, inputs: int, outputs: int, gain: float) -> dict[str, Tensor]:
        weight = (
            torch.randn(outputs, inputs, generator=generator, **FLOAT32_CPU) * gain / inputs**0.5
        )
        return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(outputs, **FLOAT32_CPU)}

    mix = torch.zeros(rule.KINDS, rule.CANDIDATES, **FLOAT32_CPU)
    mix[rule.VECTOR, ADAM] = mix[rule.EMBEDDING, ADAM] = 1.0
    mix[rule.MATRIX, MOMENTUM], mix[rule.MATRIX, GRADIENT] = 1.0, 0.5
    return {
        "rule.mix": mix,
        **layer("rule.first", rule.FEATURES, rule.HIDDEN, 2**0.5),
        **layer("rule.second", rule.HIDDEN, rule.HIDDEN, 2**0.5),
        **layer("rule.last", rule.HIDDEN, rule.CANDIDATES, 0.0),
        # Peak relative step size of each kind in a training of 1,000 steps; the power of the
        # number of steps by which it shrinks.
        "step.log_size": torch.tensor([0.04, 0.009, 0.009], **FLOAT32_CPU).log(),
        "step.horizon_power": torch.tensor([0.5], **FLOAT32_CPU),
        # Share of the steps for warm-up; last step size relative to the peak; power of the decay.
        "schedule.log_shape": torch.tensor([0.03, 0.01, 1.0], **FLOAT32_CPU).log(),
        **layer("schedule.first", schedule.FEATURES, schedule.HIDDEN, 2**0.5),
        **layer("schedule.last", schedule.HIDDEN, rule.KINDS, 0.0),
    }


def save_weights(weights: dict[str, Tensor], path: Path, **metadata: str) -> None:
    """Write weights and metadata as a safetensors file, atomically."""
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    with replaced_whole(path) as temporary:
        save_file(contiguous, temporary, metadata)


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read weights from a safetensors file.

    Returns:
        Tensors by name, without batch dimension, for ``LearnedOptimizer(..., weights=...)``.

    Raises:
        WeightsError: The file does not contain weights for this version.
        OSError: The file cannot be read.
    """
    file = Path(path)
    if file.exists() and not (file.is_file() and file.stat().st_size <= LARGEST_WEIGHTS_FILE):
        raise WeightsError(f"{path} is not a file of at most {LARGEST_WEIGHTS_FILE:,} bytes")
    return _checked(file.read_bytes(), str(path))


@cache
def shipped_weights() -> dict[str, Tensor]:
    """The weights that the package contains."""
    return _checked((files("metahpo.optim") / SHIPPED).read_bytes(), SHIPPED)


def _checked(content: bytes, name: str) -> dict[str, Tensor]:
    try:
        weights = load(content)
    except SafetensorError as error:
        raise WeightsError(f"{name} is not a safetensors file: {error}") from None
    check_weights(weights, name)
    return weights


def check_weights(weights: dict[str, Tensor], name: str = "weights") -> None:
    """Raise WeightsError for unexpected names or shapes, or values that are not finite."""
    expected = initial_weights()
    remedy = "train new weights with `metahpo train optimizer`"
    for key in sorted(weights.keys() - expected.keys()):
        raise WeightsError(f"{name}: unexpected tensor {key}, from another version; {remedy}")
    for key, tensor in expected.items():
        if key not in weights:
            raise WeightsError(f"{name}: tensor {key} is missing; {remedy}")
        if weights[key].shape != tensor.shape:
            shapes = f"{tuple(weights[key].shape)}, expected {tuple(tensor.shape)}"
            raise WeightsError(f"{name}: tensor {key} has shape {shapes}; {remedy}")
        if not weights[key].is_floating_point():
            raise WeightsError(f"{name}: tensor {key} holds {weights[key].dtype}; {remedy}")
        # NaN is not less than anything.
        if not bool((weights[key].abs() <= LARGEST_WEIGHT).all()):
            raise WeightsError(
                f"{name}: tensor {key} has values that are not finite or far too large"
            )
