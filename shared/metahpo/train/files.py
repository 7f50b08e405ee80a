"""What a meta-training leaves in its folder: a checkpoint in one safetensors file, and a log."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from metahpo.train import TrainingError


class CheckpointError(TrainingError):
    """A checkpoint cannot be read, or is of another meta-training."""


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    """Writes tensors and a JSON record under a temporary name and moves them into place."""
    temporary = path.with_suffix(".tmp")
    whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(whole, temporary, {"state": json.dumps(told)})
    temporary.replace(path)


def read_checkpoint(path: Path, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the record that ``write_checkpoint`` wrote.

    Raises:
        CheckpointError: The file cannot be read.
    """
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            told = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no checkpoint of a meta-training: {error}") from None
    return tensors, told


def check_settings(path: Path, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raises CheckpointError where a checkpoint's settings are not the wanted ones."""
    other = [name for name, value in wanted.items() if found.get(name) != value]
    if other:
        told = ", ".join(f"{name} {found.get(name)}" for name in other)
        raise CheckpointError(
            f"{path} has other settings ({told}); repeat them, or choose another folder"
        )


def write_log(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Writes a CSV table."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_log(path: Path, column: str, until: int) -> list[dict[str, object]]:
    """The rows of a CSV table whose ``column`` is at most so much; none without a table."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [dict(row) for row in csv.DictReader(file) if int(row[column]) <= until]


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with the prefix before their names."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with that prefix before their names, without it."""
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def usable_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        TrainingError: It cannot be used here.
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        told = str(error).splitlines()[0]
        raise TrainingError(f"device {name} cannot be used here: {told}") from None
    return torch.device(name)
