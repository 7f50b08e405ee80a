"""Files of weights that are broken or hostile: refused when they are loaded, in one line."""

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.hostile import DEEP, mutated

from metahpo.optim import weights as optimizer_weights
from metahpo.surrogate.curves import curve_predictions
from metahpo.surrogate.curves.curve_process import CurveArchitecture, CurveProcess
from metahpo.surrogate.networks.network_file import WeightsError
from metahpo.surrogate.neural import pretrained
from metahpo.surrogate.neural.neural_process import Architecture, NeuralProcess

SHORT, LONG = 60, 3000
REFUSED = (WeightsError, optimizer_weights.WeightsError)


def write_neural(path: Path) -> None:
    pretrained.save_weights(NeuralProcess(Architecture(width=8, heads=2, layers=1, bars=8)), path)


def write_curves(path: Path) -> None:
    curve_predictions.save_weights(CurveProcess(CurveArchitecture(width=8, heads=2)), path)


def write_optimizer(path: Path) -> None:
    optimizer_weights.save_weights(optimizer_weights.initial_weights(), path)


MODELS = {
    "neural": (write_neural, pretrained.load_weights),
    "curves": (write_curves, curve_predictions.load_weights),
    "optimizer": (write_optimizer, optimizer_weights.load_weights),
}


@pytest.fixture(params=list(MODELS))
def model(request, tmp_path):
    write, load = MODELS[request.param]
    write(tmp_path / "w.safetensors")
    return load, tmp_path / "w.safetensors"


@pytest.fixture(params=["neural", "curves"])
def network(request, tmp_path):
    write, load = MODELS[request.param]
    write(tmp_path / "w.safetensors")
    return load, tmp_path / "w.safetensors"


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def refuse(load, path: Path) -> None:
    with pytest.raises(REFUSED, match=path.name) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_values_that_are_not_finite_are_refused(model):
    load, path = model
    metadata, values = metadata_of(path), itertools.cycle([np.nan, np.inf, -np.inf, 1e30])
    for name, value in zip(load_file(path), values, strict=False):
        tensors = load_file(path)
        tensors[name].view(-1)[-1] = value
        save_file(tensors, path.with_name("other"), metadata)
        with pytest.raises(REFUSED, match=f"tensor {name} has values"):
            load(path.with_name("other"))


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, name: tensors.pop(name),
        lambda tensors, name: tensors.update(new=torch.zeros(1)),
        lambda tensors, name: tensors.update({name: tensors[name].long()}),
        lambda tensors, name: tensors.update({name: tensors[name].bool()}),
        lambda tensors, name: tensors.update({name: torch.zeros(0)}),
        lambda tensors, name: tensors.update({name: tensors[name][..., None]}),
    ],
)
def test_other_tensors_are_refused(model, change):
    load, path = model
    tensors = load_file(path)
    change(tensors, sorted(tensors)[0])
    save_file(tensors, path, metadata_of(path))
    refuse(load, path)


SIZES = [0, -1, 10**9, 10**400, 1.5, None, "8", [], {}, True, [10**9], list(range(5000)), 1024]


def test_sizes_that_do_not_fit_are_refused_before_memory_is_taken(network):
    load, path = network
    tensors, metadata = load_file(path), metadata_of(path)
    sizes = json.loads(metadata["architecture"])
    for name in [*sizes, "new"]:
        for value in SIZES:
            if value is True and isinstance(sizes.get(name), bool):
                continue
            changed = json.dumps(sizes | {name: value})
            save_file(tensors, path, metadata | {"architecture": changed})
            try:
                assert load(path).state_dict().keys() == tensors.keys()
            except WeightsError as error:
                assert "\n" not in str(error)  # noqa: PT017 - some are harmless


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "5", DEEP, '{"width": NaN}', "{}"])
def test_broken_metadata_is_refused(network, text):
    load, path = network
    metadata = metadata_of(path)
    save_file(load_file(path), path, metadata | {"architecture": text})
    refuse(load, path)
    save_file(load_file(path), path, None)
    refuse(load, path)


@pytest.mark.parametrize(
    "text", ["", "{", "null", "{}", "[[1]]", "[1]", '"ab"', DEEP, '[["a"], 1]']
)
def test_broken_learners_are_refused(tmp_path, text):
    write_neural(tmp_path / "w.safetensors")
    path = tmp_path / "w.safetensors"
    save_file(load_file(path), path, metadata_of(path) | {"learners": text})
    refuse(pretrained.load_weights, path)


def test_bars_that_are_out_of_order_are_refused(network):
    load, path = network
    for name, value in (("borders", -1.0), ("tails", 0.0)):
        tensors = load_file(path)
        tensors[name] = tensors[name] * value
        save_file(tensors, path.with_name("other"), metadata_of(path))
        refuse(load, path.with_name("other"))


def check_bytes(load, path: Path, seeds: range) -> None:
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for seed in seeds:
        numbers = random.Random(seed)
        # The header is small, and most of what can go wrong is there.
        if numbers.random() < 0.7:
            path.write_bytes(mutated(content[:header], numbers) + content[header:])
        else:
            path.write_bytes(mutated(content, numbers))
        try:
            loaded = load(path)
        except REFUSED as error:
            assert "\n" not in str(error)  # noqa: PT017 - some still fit
            continue
        tensors = loaded if isinstance(loaded, dict) else loaded.state_dict()
        assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def test_wrong_bytes_are_refused_or_harmless(model):
    """``SHORT`` files of each of three kinds."""
    check_bytes(*model, range(SHORT))


@pytest.mark.slow
def test_many_wrong_bytes_are_refused_or_harmless(model):
    check_bytes(*model, range(SHORT, SHORT + LONG))


def test_a_pipe_and_a_device_are_no_files_of_weights(model, tmp_path):
    load, _ = model
    (tmp_path / "device").symlink_to("/dev/zero")
    with pytest.raises((OSError, *REFUSED), match="device"):
        load(tmp_path / "device")
