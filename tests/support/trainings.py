"""Meta-trainings that are interrupted, and what they leave."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from metahpo.train.loop import CHECKPOINT
from metahpo.train.training import Training


def interrupt(run: Training, folder: Path, steps: int) -> None:
    """Leaves a checkpoint after so many steps, as a process does that is killed in the next."""
    folder.mkdir()
    for _ in range(steps):
        run.advance()
    run.save(folder / CHECKPOINT)
    run.advance()


def assert_same_tensors(one: Path, other: Path, *names: str) -> None:
    """In files of two folders."""
    for name in names:
        tensors, others = load_file(one / name), load_file(other / name)
        assert tensors.keys() == others.keys()
        for tensor in tensors:
            assert torch.equal(tensors[tensor], others[tensor]), tensor
