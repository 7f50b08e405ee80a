"""Weights of networks in safetensors files, with the sizes needed to rebuild the network.

A file is checked before it takes memory or time: its sizes are bounded, the network that they
describe is first built without memory, and the tensors must have its names and shapes and hold
finite numbers. A network with a NaN in it would predict NaN everywhere, without a word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from metahpo.archive.bounded_json import parse_json
from metahpo.atomic_file import replaced_whole

Network = TypeVar("Network", bound=nn.Module)

# Ten times the width of the networks that ship.
LARGEST_SIZE = 1024
# Layers, the sizes of which are all in a list where they differ.
MOST_LAYERS = 64
# Bytes of a file: a hundred times those of the networks that ship.
LARGEST_WEIGHTS_FILE = 2**29
# What trained weights never reach, and products of which stay far from overflow.
LARGEST_WEIGHT = 1e6
# Everything that broken files were seen to raise in the libraries that read and build.
UNREADABLE = (
    SafetensorError,
    LookupError,
    TypeError,
    ValueError,
    RuntimeError,
    ArithmeticError,
    AttributeError,
    AssertionError,
)


_LONGEST_REASON = 300


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
    header = {**metadata, "architecture": json.dumps(asdict(architecture))}
    with replaced_whole(path) as temporary:
        save_file(tensors, temporary, header)


def read_network(
    path: str | Path,
    build: Callable[..., Network],
    command: str,
    check: Callable[[Network, Mapping[str, str]], None],
) -> Network:
    """Read a network that ``write_network`` wrote, in evaluation mode.

    Args:
        path: The file to read.
        build: Builds a network from the sizes, given by name.
        command: The command that makes such weights, for error messages.
        check: Checks what else the network needs, and sets it; gets the network and the file's
            metadata, and raises ValueError.

    Raises:
        WeightsError: The file does not contain weights for this model.
        OSError: The file does not exist or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; make weights with `{command}`")
    try:
        if path.stat().st_size > LARGEST_WEIGHTS_FILE:
            raise ValueError(f"it has more than {LARGEST_WEIGHTS_FILE:,} bytes")
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            sizes = _sizes(metadata["architecture"])
            # On the device "meta" tensors have shapes and no memory.
            with torch.device("meta"):
                expected = {n: tuple(t.shape) for n, t in build(**sizes).state_dict().items()}
            names = file.keys()
            check_shapes(expected, {n: tuple(file.get_slice(n).get_shape()) for n in names})
            tensors = {name: file.get_tensor(name) for name in names}
        check_values(tensors)
        # Whatever dtype the process makes networks in by default.
        network = build(**sizes).float()
        network.load_state_dict(tensors)
        check(network, metadata)
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{path} does not contain weights for this version of the model "
            f"({reason[:_LONGEST_REASON]}); make new ones with `{command}`"
        ) from None
    return network.eval().requires_grad_(False)


def _sizes(text: str) -> dict[str, Any]:
    """Return an architecture's sizes by name.

    Raises:
        ValueError: For anything but numbers from 1 to ``LARGEST_SIZE``, flags and lists of them.
    """
    sizes = parse_json(text)
    if not isinstance(sizes, dict):
        raise ValueError(f"its sizes are {type(sizes).__name__}")
    for name, value in sizes.items():
        values = value if isinstance(value, list) else [value]
        if len(values) > MOST_LAYERS:
            raise ValueError(f"{name} has {len(values)} entries")
        most = MOST_LAYERS if name.endswith("layers") else LARGEST_SIZE
        for number in values:
            if not isinstance(number, int) or not (
                isinstance(number, bool) or 1 <= number <= most
            ):
                raise ValueError(f"{name} must be from 1 to {most}, got {number!r}")
    return sizes


def check_shapes(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise ValueError for tensors that are missing, unexpected or of other shapes."""
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            shapes = f"{found.get(name, 'missing')}, expected {expected.get(name, 'none')}"
            raise ValueError(f"tensor {name} is {shapes}")


def check_values(tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError for tensors of other than finite floats of a reasonable size."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"tensor {name} holds {tensor.dtype}")
        # NaN is not less than anything.
        if not bool((tensor.abs() <= LARGEST_WEIGHT).all()):
            raise ValueError(f"tensor {name} has values that are not finite or far too large")
