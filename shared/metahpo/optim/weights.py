"""The weights of rule and schedule: where they start, and the file that holds them."""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from metahpo.optim import rule, schedule

SHIPPED = "weights.safetensors"
# Positions among the candidates (see rule.py): the gradient, its fast momentum, and that over the
# root of the second moment.
GRADIENT, MOMENTUM, ADAM = 0, 1, 4


# Whatever PyTorch's defaults are.
PLAIN: Any = {"dtype": torch.float32, "device": "cpu"}


class WeightsError(ValueError):
    """A file is no set of weights of the learned optimizer."""


def initial_weights(seed: int = 0) -> dict[str, Tensor]:
    """Where meta-training starts: Muon and Adam with warm-up and decay.

    That is orthogonalised Nesterov momentum for matrices and normalised Adam for the rest. The
    last layers are zero, so that both networks begin without a say; their hidden layers are
    random.

    Args:
        seed: Of the hidden layers.

    Returns:
        The weights by name, without batch dimension.
    """
    generator = torch.Generator().manual_seed(seed)

    def layer(name: str, inputs: int, outputs: int, gain: float) -> dict[str, Tensor]:
        weight = torch.randn(outputs, inputs, generator=generator, **PLAIN) * gain / inputs**0.5
        return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(outputs, **PLAIN)}

    mix = torch.zeros(rule.KINDS, rule.CANDIDATES, **PLAIN)
    mix[rule.VECTOR, ADAM] = mix[rule.EMBEDDING, ADAM] = 1.0
    mix[rule.MATRIX, MOMENTUM], mix[rule.MATRIX, GRADIENT] = 1.0, 0.5
    return {
        "rule.mix": mix,
        **layer("rule.first", rule.FEATURES, rule.HIDDEN, 2**0.5),
        **layer("rule.second", rule.HIDDEN, rule.HIDDEN, 2**0.5),
        **layer("rule.last", rule.HIDDEN, rule.CANDIDATES, 0.0),
        # Relative step sizes of each kind, and how they shrink with the horizon.
        "step.log_size": torch.tensor([0.04, 0.009, 0.009], **PLAIN).log(),
        "step.horizon_power": torch.tensor([0.5], **PLAIN),
        # Share of the steps for warm-up, last share of the peak, power of the decay.
        "schedule.log_shape": torch.tensor([0.03, 0.01, 1.0], **PLAIN).log(),
        **layer("schedule.first", schedule.FEATURES, schedule.HIDDEN, 2**0.5),
        **layer("schedule.last", schedule.HIDDEN, rule.KINDS, 0.0),
    }


def save_weights(weights: dict[str, Tensor], path: Path, **metadata: str) -> None:
    """Writes weights and what is to be known of them as safetensors, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(contiguous, temporary, metadata)
    temporary.replace(path)


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Reads weights without batch dimension.

    Raises:
        WeightsError: The file is none of ours.
        OSError: It cannot be read.
    """
    return _checked(Path(path).read_bytes(), str(path))


@cache
def shipped_weights() -> dict[str, Tensor]:
    """The weights that come with the package."""
    return _checked((files("metahpo.optim") / SHIPPED).read_bytes(), SHIPPED)


def _checked(content: bytes, name: str) -> dict[str, Tensor]:
    try:
        weights = load(content)
    except SafetensorError as error:
        raise WeightsError(f"{name} is no safetensors file: {error}") from None
    check_weights(weights, name)
    return weights


def check_weights(weights: dict[str, Tensor], name: str = "weights") -> None:
    """Raises WeightsError where names or shapes are others, or a value is not finite."""
    known = initial_weights()
    for key in weights.keys() - known.keys():
        raise WeightsError(f"{name} is of another version: {key} is unknown to this one")
    for key, expected in known.items():
        if key not in weights or weights[key].shape != expected.shape:
            raise WeightsError(
                f"{name} does not fit this version: {key} should be of shape "
                f"{tuple(expected.shape)}; make new weights with `metahpo train optimizer`"
            )
        if not math.isfinite(weights[key].sum().item()):
            raise WeightsError(f"{name} has values in {key} that are not finite")
