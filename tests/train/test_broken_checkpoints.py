"""Damaged checkpoints of the three meta-trainings: one clear line that says what to do."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.hostile import DEEP, mutated

from metahpo.surrogate.curves.curve_process import CurveArchitecture
from metahpo.surrogate.neural.neural_process import Architecture
from metahpo.train.curves.curve_training import CurveSettings, CurveTraining
from metahpo.train.files import CheckpointError, read_log
from metahpo.train.optimizer import checkpoint
from metahpo.train.optimizer.meta_training import MetaTraining
from metahpo.train.optimizer.optimizer_settings import Settings as OptimizerSettings
from metahpo.train.surrogate.surrogate_training import Settings, SurrogateTraining

SHORT, LONG = 25, 1000


def surrogate() -> SurrogateTraining:
    sizes = Architecture(width=8, heads=2, layers=1, past_layers=1, bars=8)
    return SurrogateTraining(
        Settings(steps=4, budget=200, synthetic=1.0, inner_steps=2), architecture=sizes
    )


def curves() -> CurveTraining:
    sizes = CurveArchitecture(width=8, heads=2, grid=8, dilations=(1,), bars=8)
    return CurveTraining(CurveSettings(steps=4, curves=20, synthetic=1.0), architecture=sizes)


def optimizer() -> MetaTraining:
    return MetaTraining(
        OptimizerSettings(trainings=2, pairs=2, truncation=2, shortest=3, longest=6)
    )


Run: TypeAlias = SurrogateTraining | CurveTraining | MetaTraining


def restore(run: Run, path: Path) -> None:
    if isinstance(run, MetaTraining):
        checkpoint.restore(run, path)
    else:
        run.restore(path)


@pytest.fixture(scope="module", params=[surrogate, curves, optimizer])
def saved(request, tmp_path_factory) -> tuple[Run, bytes]:
    """A training after some steps, and its checkpoint."""
    run, path = request.param(), tmp_path_factory.mktemp("saved") / "c.safetensors"
    for _ in range(2):
        run.advance()
    if isinstance(run, MetaTraining):
        checkpoint.save(run, path)
    else:
        run.save(path)
    return run, path.read_bytes()


@pytest.fixture
def path(saved, tmp_path) -> Path:
    (tmp_path / "c.safetensors").write_bytes(saved[1])
    return tmp_path / "c.safetensors"


def refuse(run, path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        restore(run, path)
    assert "\n" not in str(caught.value)
    assert "c.safetensors" in str(caught.value)
    assert "another folder" in str(caught.value)


def rewrite(path: Path, change: Callable[[dict, dict], object]) -> None:
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["state"])
    change(tensors, record)
    save_file(tensors, path, {"state": json.dumps(record)})


def test_a_whole_checkpoint_is_restored(saved, path):
    restore(saved[0], path)


def test_a_checkpoint_without_some_entry_is_refused(saved, path):
    with safe_open(path, "pt") as file:
        names = list(json.loads(file.metadata()["state"]))
    for name in names:
        path.write_bytes(saved[1])
        rewrite(path, lambda tensors, record, name=name: record.pop(name))
        # Older checkpoints lacked the one, and the other may change.
        if name not in ("pretrained", "steps"):
            refuse(saved[0], path)
        for value in (None, "x", -1, [[1]], float("nan")):
            path.write_bytes(saved[1])
            rewrite(path, lambda t, record, n=name, v=value: record.update({n: v}))
            # Some entries may be any number, and extra time or losses are harmless.
            try:
                restore(saved[0], path)
            except CheckpointError as error:
                assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("change", ["drop", "shape", "kind", "nan"])
def test_a_checkpoint_with_other_tensors_is_refused(saved, path, change):
    names = [name for name in load_file(path) if name.split(".")[0] in ("network", "weights")]
    for name in random.Random(0).sample(names, 3):
        path.write_bytes(saved[1])
        rewrite(path, lambda tensors, _, name=name: changed(tensors, name, change))
        refuse(saved[0], path)


def changed(tensors: dict, name: str, change: str) -> None:
    match change:
        case "drop":
            del tensors[name]
        case "shape":
            tensors[name] = tensors[name].flatten()[:0]
        case "kind":
            tensors[name] = tensors[name].long()
        case _:
            tensors[name] = torch.full_like(tensors[name], np.nan)


@pytest.mark.parametrize("state", ["", "{", "null", "[]", DEEP, "5"])
def test_a_checkpoint_without_a_record_is_refused(saved, path, state):
    save_file(load_file(path), path, {"state": state})
    refuse(saved[0], path)
    save_file(load_file(path), path, None)
    refuse(saved[0], path)


def check_bytes(saved, path: Path, seeds: range) -> None:
    run, content = saved
    header = 8 + int.from_bytes(content[:8], "little")
    for seed in seeds:
        numbers = random.Random(seed)
        path.write_bytes(mutated(content[:header], numbers) + content[header:])
        try:
            restore(run, path)
        except CheckpointError as error:
            assert "\n" not in str(error)  # noqa: PT017 - some still fit


def test_wrong_bytes_are_one_clear_line(saved, path):
    """``SHORT`` checkpoints of each training."""
    check_bytes(saved, path, range(SHORT))


@pytest.mark.slow
def test_many_wrong_bytes_are_one_clear_line(saved, path):
    check_bytes(saved, path, range(SHORT, SHORT + LONG))


@pytest.mark.parametrize("text", [b"\xff\xfe", b"step\nx\n", b"other\n1\n", b"step\n\n1,2,3\n,\n"])
def test_a_damaged_log_is_one_clear_line(tmp_path, text):
    (tmp_path / "log.csv").write_bytes(text)
    with pytest.raises(CheckpointError, match=r"log\.csv is not the log .*delete it"):
        read_log(tmp_path / "log.csv", "step", 5)
