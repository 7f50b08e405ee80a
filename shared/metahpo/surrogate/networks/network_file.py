"""Weights of networks in safetensors files, with the sizes needed to rebuild the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class WeightsError(ValueError):
    """The file does not contain weights for this model; the message says what to do."""


def write_network(network: nn.Module, architecture: Any, path: Path, **metadata: str) -> None:
    """Write weights, sizes and metadata atomically.

    Args:
        network: The network.
        architecture: Its sizes, a dataclass of numbers.
        path: The file to write.
        **metadata: More entries of the file's header.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, {**metadata, "architecture": json.dumps(asdict(architecture))})
    temporary.replace(path)


def read_network(path: str | Path, build: Callable[..., Network], command: str) -> Network:
    """Read a network that ``write_network`` wrote, in evaluation mode.

    Args:
        path: The file to read.
        build: Builds a network from the sizes, given by name.
        command: The command that makes such weights, for error messages.

    Raises:
        WeightsError: The file does not contain weights for this model.
        OSError: The file does not exist or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; make weights with `{command}`")
    try:
        with safe_open(path, "pt") as file:
            sizes = json.loads((file.metadata() or {})["architecture"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        # Whatever dtype the process makes networks in by default.
        network = build(**sizes).float()
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path} does not contain weights for this version of the model "
            f"({str(error).splitlines()[0]}); make new ones with `{command}`"
        ) from None
    return network.eval().requires_grad_(False)
