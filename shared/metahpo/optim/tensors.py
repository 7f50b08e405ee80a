"""Tensors in the form that the rule expects: real, rows x columns, equal ones in batches."""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor

from metahpo.optim.rule import rows_and_columns

# Most elements of equal tensors that a CPU updates as one batch: copying more of them into a batch
# takes longer than updating them one by one.
MAX_BATCH_ELEMENTS = 1 << 18


def real_view(tensor: Tensor) -> Tensor:
    """View complex numbers as pairs of real ones, in a new last dimension."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def state_dtype(parameter: Tensor) -> torch.dtype:
    """Single precision, or the precision of the parameter (of its parts) if that is higher."""
    return torch.promote_types(real_view(parameter).dtype, torch.float32)


def matrix_shape(tensor: Tensor) -> tuple[int, int]:
    """Rows and columns; a complex number takes two columns of its row."""
    rows, columns = rows_and_columns(tensor.shape)
    return rows, columns * (2 if tensor.is_complex() else 1)


def as_batch(tensors: list[Tensor], shape: tuple[int, int]) -> Tensor:
    """Stack tensors as ``batch x rows x columns``.

    A single tensor is not copied: the result is a view that must not be written to.
    """
    matrices = [tensor.reshape(shape) for tensor in tensors]
    return torch.stack(matrices) if len(matrices) > 1 else matrices[0][None]


def split_batch(tensors: list[Tensor]) -> list[list[Tensor]]:
    """Split equal tensors into batches of at most ``MAX_BATCH_ELEMENTS`` elements on a CPU."""
    size = len(tensors)
    if tensors[0].device.type == "cpu":
        size = max(1, MAX_BATCH_ELEMENTS // max(1, tensors[0].numel()))
    return [tensors[first : first + size] for first in range(0, len(tensors), size)]


def global_norm(tensors: list[Tensor]) -> float:
    """The Euclidean norm of all elements of all tensors."""
    real = [real_view(tensor) for tensor in tensors]
    # At least single precision: squares overflow in half precision.
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in real) else torch.float32
    norms = torch._foreach_norm(real, dtype=dtype)  # pyright: ignore[reportPrivateImportUsage]
    by_device: dict[torch.device, list[Tensor]] = defaultdict(list)
    for norm in norms:
        by_device[norm.device].append(norm)
    # One synchronisation per device.
    return math.hypot(*(torch.stack(norms).norm().item() for norms in by_device.values()))


def cosine(gradients: list[Tensor], momenta: list[Tensor | None]) -> float | None:
    """The cosine between gradients and momenta, over all elements of all tensors.

    Args:
        gradients: One per parameter, in any precision.
        momenta: As real tensors, in single precision or better; None where there is none.

    Returns:
        None if no parameter has a momentum, or if either is zero or not finite.
    """
    pairs = [
        (real_view(gradient).to(momentum.dtype), momentum)
        for gradient, momentum in zip(gradients, momenta, strict=True)
        if momentum is not None
    ]
    if not pairs:
        return None
    norms = math.prod(global_norm(list(tensors)) for tensors in zip(*pairs, strict=True))
    dots: dict[torch.device, list[Tensor]] = defaultdict(list)
    for gradient, momentum in pairs:
        dots[momentum.device].append(gradient.reshape(-1).dot(momentum.reshape(-1)))
    dot = math.fsum(torch.stack(parts).sum().item() for parts in dots.values())
    return dot / norms if norms > 0 and math.isfinite(norms) and math.isfinite(dot) else None
