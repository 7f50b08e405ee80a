"""The rule when its network contributes nothing: a constant mixture of few candidates.

The same function as ``metahpo.optim.rule.direction`` with such weights (for gradients above
1e-13), but only the candidates in the mixture are computed. The moments' bias correction cancels
here, because every candidate is normalised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metahpo.optim.rule import (
    TINY,
    Moments,
    Weights,
    factored_root,
    mixture_to_direction,
    root,
    slow_momentum,
)

# Candidate (its position, see rule.py) -> non-zero coefficient, for one kind of tensor.
Mixture = Mapping[int, float]
# Candidates come in threes: gradient, fast momentum, slow momentum.
SLOW_MOMENTUM = 2


def fixed_mixtures(weights: Weights) -> list[Mixture] | None:
    """The mixture for each kind of tensor; None if the rule's network contributes.

    Args:
        weights: As in ``metahpo.optim.weights``, without batch dimension.
    """
    if weights["rule.last.weight"].any() or weights["rule.last.bias"].any():
        return None
    return [
        {candidate: coefficient for candidate, coefficient in enumerate(row) if coefficient}
        for row in weights["rule.mix"].tolist()
    ]


def uses_slow_momentum(mixtures: Sequence[Mixture]) -> bool:
    """Whether any mixture contains a candidate made from the slow momentum."""
    return any(candidate % 3 == SLOW_MOMENTUM for mixture in mixtures for candidate in mixture)


def fixed_direction(mixture: Mixture, kind: int, gradient: Tensor, moments: Moments) -> Tensor:
    """The direction of an update, as ``metahpo.optim.rule.direction`` defines it.

    Args:
        mixture: The mixture for this kind of tensor.
        kind: MATRIX, VECTOR or EMBEDDING.
        gradient: ``batch x rows x columns``.
        moments: Including this gradient; bias-corrected or not.

    Returns:
        A new tensor, ``batch x rows x columns``.
    """
    mixed = torch.zeros_like(gradient)
    for number, coefficient in mixture.items():
        candidate = _candidate(number, gradient, moments)
        size = torch.linalg.vector_norm(candidate, dim=(-2, -1), keepdim=True)
        count = max(1, candidate[0].numel())
        mixed.addcmul_(candidate, coefficient / (size.square() / count + TINY).sqrt())
    return mixture_to_direction(kind, mixed)


def _candidate(number: int, gradient: Tensor, moments: Moments) -> Tensor:
    scale, part = divmod(number, 3)
    plain = slow_momentum(moments) if part == SLOW_MOMENTUM else (gradient, moments.fast)[part]
    if scale == 0:
        return plain
    return plain / (root if scale == 1 else factored_root)(moments.second)
