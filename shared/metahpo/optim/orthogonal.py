"""Making matrices orthogonal, by products of matrices alone. Pure and batched."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

# The quintic iteration of Muon.
NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
# It runs in bfloat16, as Muon's does, for matrices with sides at least this long.
BFLOAT16_SIDE = 128

TINY = 1e-15


def orthogonalised(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices, near enough, times sqrt(max(rows, columns)).

    So the mean square is about 1 where the rank is full, and less where it is not. Newton-Schulz
    iteration with the coefficients of Jordan et al. 2024, which leave singular values between
    about 0.7 and 1.2. Zero stays zero.

    What has several times as many rows as columns is taken as that many square matrices: the
    gates of a recurrent layer, or queries, keys and values, have nothing in common but their
    inputs. It is faster, too.

    Args:
        matrices: ``batch x rows x columns``.
    """
    rows, columns = matrices.shape[-2:]
    if rows > columns and rows % columns == 0:
        squares = matrices.reshape(-1, columns, columns)
        return orthogonalised(squares).view(matrices.shape)
    wide = matrices.mT if rows > columns else matrices
    now = wide / (torch.linalg.vector_norm(wide, dim=(-2, -1), keepdim=True) + TINY)
    large = min(rows, columns) >= BFLOAT16_SIDE and now.dtype == torch.float32
    if large and _fast_bfloat16(now.device.type):
        now = now.bfloat16()
    first, second, third = NEWTON_SCHULZ
    for _ in range(ITERATIONS):
        # Not by @, which copies first.
        gram = torch.bmm(now, now.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=second, alpha=third)
        now = torch.baddbmm(now, polynomial, now, beta=first)
    now = now.to(matrices.dtype).mul_(max(rows, columns) ** 0.5)
    return now.mT if rows > columns else now


@cache
def _fast_bfloat16(device: str) -> bool:
    """Whether products in bfloat16 are faster than in single precision, and not emulated."""
    if device == "cpu":
        # Not in older versions of PyTorch.
        able = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
