"""Tensors as the rule sees them: real, in rows and columns, equal ones in batches."""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor

from metahpo.optim.rule import rows_and_columns

# Elements of equal tensors that a processor updates together: of larger ones, to copy them into
# one takes longer than to update one after the other.
TOGETHER = 1 << 18


def real_view(tensor: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones, in the last dimension; a view of a parameter."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def form_of(tensor: Tensor) -> tuple[int, int]:
    """Rows and columns; of complex numbers, with both parts of each in its row."""
    rows, columns = rows_and_columns(tensor.shape)
    return rows, columns * (2 if tensor.is_complex() else 1)


def batch_of(tensors: list[Tensor], form: tuple[int, int]) -> Tensor:
    """``batch x rows x columns``; one alone is not copied, and must not be written into."""
    shaped = [tensor.reshape(form) for tensor in tensors]
    return torch.stack(shaped) if len(shaped) > 1 else shaped[0][None]


def divided(members: list[Tensor]) -> list[list[Tensor]]:
    """Equal tensors in parts of at most ``TOGETHER`` elements on a processor, or of one tensor."""
    at_once = len(members)
    if members[0].device.type == "cpu":
        at_once = max(1, TOGETHER // max(1, members[0].numel()))
    return [members[first : first + at_once] for first in range(0, len(members), at_once)]


def norm(tensors: list[Tensor]) -> float:
    """Of all of them together, in single precision at least."""
    real = [real_view(tensor) for tensor in tensors]
    # Half precision overflows.
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in real) else torch.float32
    norms = torch._foreach_norm(real, dtype=dtype)  # pyright: ignore[reportPrivateImportUsage]
    # On the devices first: one synchronisation each.
    alike: dict[torch.device, list[Tensor]] = defaultdict(list)
    for each in norms:
        alike[each.device].append(each)
    return math.hypot(*(torch.stack(part).norm().item() for part in alike.values()))
