"""The files of a meta-training: checkpoints in safetensors, logs in CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from metahpo.atomic_file import replaced_whole
from metahpo.surrogate.networks.network_file import UNREADABLE, check_shapes
from metahpo.train import TrainingError


class CheckpointError(TrainingError):
    """A checkpoint cannot be read, or belongs to a different meta-training."""


def write_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write tensors and a JSON record to one file, atomically."""
    copies = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    with replaced_whole(path) as temporary:
        save_file(copies, temporary, {"state": json.dumps(metadata)})


def read_checkpoint(path: Path, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the record that ``write_checkpoint`` wrote.

    Raises:
        CheckpointError: The file cannot be read.
    """
    with restoring(path), safe_open(path, "pt", device=str(device)) as file:
        metadata = json.loads(file.metadata()["state"])
        if not isinstance(metadata, dict):
            raise ValueError(f"its record is {type(metadata).__name__}")
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Say of a damaged checkpoint what to do, in place of what libraries raise at its content.

    Args:
        path: The checkpoint.

    Raises:
        CheckpointError: For anything that goes wrong inside.
    """
    try:
        yield
    except CheckpointError:
        raise
    except (*UNREADABLE, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path} is not a checkpoint of a meta-training ({type(error).__name__}: "
            f"{reason[:300]}); delete it to start again, or choose another folder"
        ) from None


def check_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless a checkpoint's tensors have these names, shapes and dtypes."""
    check_shapes(_shapes(expected), _shapes(found))
    for name, tensor in expected.items():
        if found[name].dtype != tensor.dtype:
            raise ValueError(f"tensor {name} holds {found[name].dtype}")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def checked_count(value: Any, at_most: float = math.inf) -> int:
    """Return a number of steps; raises ValueError for anything but a whole number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= at_most:
        raise ValueError(f"{value!r} is no number of steps")
    return value


def checked_seconds(value: Any) -> float:
    """Return a time in seconds; raises ValueError for anything but a finite one from 0 on."""
    if not isinstance(value, int | float) or not 0.0 <= value < math.inf:
        raise ValueError(f"{value!r} is no time in seconds")
    return float(value)


def check_settings(path: Path, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Compare the settings in a checkpoint with those of this run.

    Raises:
        CheckpointError: Some of them differ.
    """
    different = [name for name, value in expected.items() if found.get(name) != value]
    if different:
        values = ", ".join(f"{name} {found.get(name)}" for name in different)
        raise CheckpointError(
            f"{path} was written with different settings ({values}); "
            "use the same settings, or choose another folder"
        )


def write_log(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    """Write a CSV table."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_log(path: Path, column: str, last: int) -> list[dict[str, object]]:
    """Return the rows of a CSV table whose ``column`` is at most ``last``.

    The list is empty if the file does not exist.

    Raises:
        CheckpointError: The file is damaged.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="") as file:
            return [dict(row) for row in csv.DictReader(file) if int(row[column]) <= last]
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise CheckpointError(
            f"{path} is not the log of a meta-training ({type(error).__name__}: {error}); delete "
            "it to continue without the earlier rows"
        ) from None


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names ``prefix.name``."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with ``prefix.``, under the rest of their names."""
    start = f"{prefix}."
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def usable_device(name: str) -> torch.device:
    """Return the PyTorch device of that name.

    Raises:
        TrainingError: PyTorch cannot use it on this machine.
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"device {name} cannot be used on this machine: {reason}") from None
    return torch.device(name)
