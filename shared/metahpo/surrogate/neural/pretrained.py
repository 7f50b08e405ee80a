"""Weights of the neural process in safetensors files: the user's, and those of the package."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors import safe_open

from metahpo.surrogate.networks.network_file import WeightsError as WeightsError
from metahpo.surrogate.networks.network_file import read_network, write_network
from metahpo.surrogate.neural.neural_process import Architecture, NeuralProcess

# Within the folder ``weights`` beside this file.
SHIPPED = "surrogate.safetensors"


def default_weights() -> Path:
    """The file of the weights that come with the package, for ``load_weights``.

    Raises:
        WeightsError: None come with this version.
    """
    path = Path(str(files("metahpo.surrogate.neural") / "weights" / SHIPPED))
    if not path.is_file():
        raise WeightsError(
            "no weights of the neural surrogate come with this version: make some with "
            "`metahpo train surrogate`, and name their file"
        )
    return path


def save_weights(network: NeuralProcess, path: Path, **metadata: str) -> None:
    """Writes weights, sizes and what else is to be known of them as a safetensors file."""
    learners = json.dumps(sorted(sorted(names) for names in network.learners))
    write_network(network, network.architecture, path, learners=learners, **metadata)


def load_weights(path: str | Path) -> NeuralProcess:
    """The network that ``save_weights`` wrote, ready to predict.

    Raises:
        WeightsError: The file is none of ours.
        OSError: It cannot be read.
    """
    network = read_network(path, _built, "metahpo train surrogate")
    with safe_open(path, "pt") as file:
        learners = json.loads((file.metadata() or {}).get("learners", "[]"))
    network.learners = frozenset(map(frozenset, learners))
    return network


def _built(**sizes: Any) -> NeuralProcess:
    return NeuralProcess(Architecture(**sizes))
