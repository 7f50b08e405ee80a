"""Weights of networks in safetensors files, with the sizes that rebuild the network."""

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
    """A file is no weights of this model; the message says what to do."""


def write_network(network: nn.Module, architecture: Any, path: Path, **metadata: str) -> None:
    """Writes weights, sizes and what else is to be known of them, whole or not at all.

    Args:
        network: Whose weights.
        architecture: Its sizes, a data class of numbers.
        path: Of the file.
        **metadata: What else is to be known.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, {**metadata, "architecture": json.dumps(asdict(architecture))})
    temporary.replace(path)


def read_network(path: str | Path, build: Callable[..., Network], command: str) -> Network:
    """The network that ``write_network`` wrote, ready to predict.

    Args:
        path: Of the file.
        build: Makes a network of the sizes, which it takes by name.
        command: What makes such weights, for messages.

    Raises:
        WeightsError: The file is none of ours.
        OSError: It cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: make some with `{command}`")
    try:
        with safe_open(path, "pt") as file:
            sizes = json.loads((file.metadata() or {})["architecture"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = build(**sizes)
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path} does not fit this version: make new weights with `{command}` "
            f"({str(error).splitlines()[0]})"
        ) from None
    return network.eval().requires_grad_(False)
