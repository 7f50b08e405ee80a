"""Weights of the neural process in safetensors files: the user's, and those of the package."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from metahpo.surrogate.neural import Architecture, NeuralProcess

# Within the folder ``weights`` beside this file.
SHIPPED = "surrogate.safetensors"


class WeightsError(ValueError):
    """There are no weights, or a file is none of this model; the message says what to do."""


def default_weights() -> Path:
    """The file of the weights that come with the package, for ``load_weights``.

    Raises:
        WeightsError: None come with this version.
    """
    path = Path(str(files("metahpo.surrogate") / "weights" / SHIPPED))
    if not path.is_file():
        raise WeightsError(
            "no weights of the neural surrogate come with this version: make some with "
            "`metahpo train surrogate`, and name their file"
        )
    return path


def save_weights(network: NeuralProcess, path: Path, **metadata: str) -> None:
    """Writes weights, sizes and what else is to be known of them as a safetensors file."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    sizes = json.dumps(asdict(network.architecture))
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, {**metadata, "architecture": sizes})
    temporary.replace(path)


def load_weights(path: str | Path) -> NeuralProcess:
    """The network that ``save_weights`` wrote, ready to predict.

    Raises:
        WeightsError: The file is none of ours.
        OSError: It cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: make some with `metahpo train surrogate`")
    try:
        with safe_open(path, "pt") as file:
            sizes = Architecture(**json.loads((file.metadata() or {})["architecture"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = NeuralProcess(sizes)
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{path} does not fit this version: make new weights with `metahpo train surrogate` "
            f"({str(error).splitlines()[0]})"
        ) from None
    return network.eval().requires_grad_(False)
