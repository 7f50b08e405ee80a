"""PyTorch's settings while a suggestion is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_torch_state() -> Iterator[None]:
    """Compute on the processor, with gradients, in the models' own dtypes, whatever is set.

    A default device, ``no_grad``, ``inference_mode`` and ``autocast`` hold for the calling thread,
    so that they can be set aside here. The default dtype holds for the whole process, where
    another thread may be training: models name their dtypes instead.
    """
    with (
        torch.device("cpu"),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast("cpu", enabled=False),
    ):
        yield
