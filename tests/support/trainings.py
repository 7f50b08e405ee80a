"""Interrupted meta-trainings, and comparisons of their files."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from metahpo.train.loop import CHECKPOINT
from metahpo.train.training import Training


def interrupt(run: Training, folder: Path, steps: int) -> None:
    """Leave a checkpoint after ``steps`` steps, like a process killed during the next one."""
    folder.mkdir()
    for _ in range(steps):
        run.advance()
    run.save(folder / CHECKPOINT)
    run.advance()


def assert_same_tensors(one: Path, other: Path, *names: str) -> None:
    """Compare the tensors of files in two folders."""
    for name in names:
        tensors, others = load_file(one / name), load_file(other / name)
        assert tensors.keys() == others.keys()
        for tensor in tensors:
            assert torch.equal(tensors[tensor], others[tensor]), tensor
