"""Orthogonalise matrices with matrix products alone (Newton-Schulz). Pure and batched."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

# Coefficients and number of iterations as in Muon (Jordan et al. 2024).
NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
# As in Muon, bfloat16 is precise enough; it pays for matrices whose sides are at least this long.
BFLOAT16_SIDE = 128

TINY = 1e-15


def orthogonalised(matrices: Tensor) -> Tensor:
    """Approximate the nearest (semi-)orthogonal matrices, times sqrt(max(rows, columns)).

    The iteration leaves singular values between about 0.7 and 1.2 (before that factor), so the
    mean square of a full-rank matrix is about 1. Zero stays zero.

    A matrix with several times as many rows as columns is split into square matrices: the gates of
    a recurrent layer, or queries, keys and values, share nothing but their inputs. It is also
    faster.

    Args:
        matrices: ``batch x rows x columns``.

    Returns:
        ``batch x rows x columns``.
    """
    rows, columns = matrices.shape[-2:]
    if rows > columns and rows % columns == 0:
        squares = matrices.reshape(-1, columns, columns)
        return orthogonalised(squares).view(matrices.shape)
    wide = matrices.mT if rows > columns else matrices
    x = wide / (torch.linalg.vector_norm(wide, dim=(-2, -1), keepdim=True) + TINY)
    large = min(rows, columns) >= BFLOAT16_SIDE and x.dtype == torch.float32
    if large and _has_fast_bfloat16(x.device.type):
        x = x.bfloat16()
    first, second, third = NEWTON_SCHULZ
    for _ in range(ITERATIONS):
        # torch.bmm, because @ copies the transposed matrix first.
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=second, alpha=third)
        x = torch.baddbmm(x, polynomial, x, beta=first)
    x = x.to(matrices.dtype).mul_(max(rows, columns) ** 0.5)
    return x.mT if rows > columns else x


@cache
def _has_fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 products run natively (and so faster than in single precision)."""
    if device == "cpu":
        # Older versions of PyTorch lack get_capabilities.
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
