"""PyTorch's settings while a suggestion is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_torch_state() -> Iterator[None]:
    """Compute on the processor, with gradients, whatever the process has set.

    A default device, ``no_grad`` and ``inference_mode`` hold for the calling thread, so that they
    can be set aside here. The default dtype holds for the whole process, where another thread may
    be training: models name their dtypes instead.
    """
    with torch.device("cpu"), torch.inference_mode(False), torch.enable_grad():
        yield
