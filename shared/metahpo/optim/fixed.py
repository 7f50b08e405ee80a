"""The rule where its network has no say: candidates in fixed shares, and no work for the others.

The same function as ``metahpo.optim.rule.direction`` with such weights (and gradients that are not
below 1e-13), at a fraction of its time and memory. Corrections of the moments' bias cancel here,
for all that is mixed is normalised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metahpo.optim.rule import TINY, Moments, Weights, factored_root, finished, root, slow_momentum

# Of one kind of tensors: shares by place among the candidates (see rule.py), none of them zero.
Shares = Mapping[int, float]
# Candidates come in threes: gradient, fast and slow momentum.
SLOW_MOMENTUM = 2


def fixed_shares(weights: Weights) -> list[Shares] | None:
    """The shares by kind; None where the network has a say.

    Args:
        weights: As ``metahpo.optim.weights`` makes them, without batch dimension.
    """
    if weights["rule.last.weight"].any() or weights["rule.last.bias"].any():
        return None
    return [
        {place: share for place, share in enumerate(row) if share}
        for row in weights["rule.mix"].tolist()
    ]


def takes_slow_momentum(kinds: Sequence[Shares]) -> bool:
    """Whether any kind of tensors has a share of it."""
    return any(place % 3 == SLOW_MOMENTUM for shares in kinds for place in shares)


def fixed_direction(shares: Shares, kind: int, gradient: Tensor, moments: Moments) -> Tensor:
    """Where to go, as ``rule.direction`` has it.

    Args:
        shares: Of this kind.
        kind: MATRIX, VECTOR or EMBEDDING.
        gradient: ``batch x rows x columns``.
        moments: With or without their bias; the gradient is in them.

    Returns:
        ``batch x rows x columns``; none of the arguments.
    """
    mixed = torch.zeros_like(gradient)
    for place, share in shares.items():
        candidate = _candidate(place, gradient, moments)
        size = torch.linalg.vector_norm(candidate, dim=(-2, -1), keepdim=True)
        count = max(1, candidate[0].numel())
        mixed.addcmul_(candidate, share / (size.square() / count + TINY).sqrt())
    return finished(kind, mixed)


def _candidate(place: int, gradient: Tensor, moments: Moments) -> Tensor:
    scale, part = divmod(place, 3)
    plain = slow_momentum(moments) if part == SLOW_MOMENTUM else (gradient, moments.fast)[part]
    if scale == 0:
        return plain
    return plain / (root if scale == 1 else factored_root)(moments.second)
