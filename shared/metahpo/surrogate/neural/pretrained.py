"""Weights of the neural process in safetensors files: a user's, and those of the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from metahpo.archive.bounded_json import parse_json
from metahpo.surrogate.networks.bars import check_bars
from metahpo.surrogate.networks.network_file import WeightsError as WeightsError
from metahpo.surrogate.networks.network_file import read_network, write_network
from metahpo.surrogate.neural.neural_process import Architecture, NeuralProcess

# In the folder ``weights`` next to this file.
SHIPPED = "surrogate.safetensors"


def default_weights() -> Path:
    """Return the file of the weights that ship with the package, for ``load_weights``.

    Raises:
        WeightsError: This version ships without weights.
    """
    path = Path(str(files("metahpo.surrogate.neural") / "weights" / SHIPPED))
    if not path.is_file():
        raise WeightsError(
            "this version ships without weights of the neural surrogate; make some with "
            "`metahpo train surrogate` and pass their file"
        )
    return path


def save_weights(network: NeuralProcess, path: Path, **metadata: str) -> None:
    """Write weights, sizes, ``learners`` and more metadata to a safetensors file, atomically."""
    learners = json.dumps(sorted(sorted(names) for names in network.learners))
    write_network(network, network.architecture, path, learners=learners, **metadata)


def load_weights(path: str | Path) -> NeuralProcess:
    """Read a network that ``save_weights`` wrote, in evaluation mode.

    Raises:
        WeightsError: The file does not contain weights for this model.
        OSError: The file does not exist or cannot be read.
    """
    return read_network(path, _built, "metahpo train surrogate", _check)


def _check(network: NeuralProcess, metadata: Mapping[str, str]) -> None:
    check_bars(network.borders, network.tails)
    learners = parse_json(metadata.get("learners", "[]"))
    if not isinstance(learners, list) or not all(map(_is_learner, learners)):
        raise ValueError("its learners are not lists of names")
    network.learners = frozenset(map(frozenset, learners))


def _is_learner(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _built(**sizes: Any) -> NeuralProcess:
    return NeuralProcess(Architecture(**sizes))
