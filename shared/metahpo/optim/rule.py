"""The learned update rule: from gradients to a normalised direction. Pure and batched.

Every tensor comes in one form, ``batch x rows x columns``: a matrix as it is, a convolution's
kernel with one row an output channel, a vector or scalar as one row. The batch is that of equal
shapes in one network, or of many networks in meta-training; the weights have a leading batch
dimension, too, of the same length or 1.

The rule follows Celo2 (a tiny network for each parameter, output normalised over the tensor) with
features of Metz et al. 2022 (small_fc). It differs in what the network puts out: the weights of
nine candidate directions instead of the direction. So the rule is momentum, Adam, or any other of
the candidates where the network is zero, and a parameter without a gradient never moves. What is
mixed for a matrix then is made orthogonal (Newton-Schulz, as in Muon, Jordan et al. 2024, and the
full form of Celo2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

# The decay rates of the two momenta and of the second moment.
FAST, SLOW, SECOND = 0.9, 0.99, 0.98
# Candidates: gradient and two momenta; as they are, over the root of the second moment, and over
# that of its factored form.
CANDIDATES = 9
FEATURES = CANDIDATES + 3
HIDDEN = 8
# Rows of the weights that differ by kind of tensor.
MATRIX, VECTOR = 0, 1
KINDS = 2
# Elements that go through the network at once: bounds the memory of large tensors, and keeps a
# processor within its cache.
CHUNK = {"cpu": 1 << 15}
LARGEST_CHUNK = 1 << 20

# How much less a matrix moves that has fewer rows than columns: see ``layer_scale``.
SHRINK = 0.25

# The quintic iteration of Muon.
NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
# It runs in bfloat16, as Muon's does, for matrices with sides at least this long.
BFLOAT16_SIDE = 256

TINY = 1e-30
# Of the mean second moment: what keeps parameters that rarely see a gradient from taking leaps.
RELATIVE_FLOOR = 1e-6

Weights = Mapping[str, Tensor]
Function = TypeVar("Function", bound=Callable[..., Any])


class Moments(NamedTuple):
    """Running means of the gradient and of its square, each ``batch x rows x columns``."""

    fast: Tensor
    slow: Tensor
    second: Tensor

    def corrected(self, corrections: Tensor) -> Moments:
        """Without the bias of having started at zero.

        Args:
            corrections: As ``bias_corrections`` gives them.
        """
        fast, slow, second = corrections.unbind(-1)
        return Moments(self.fast / fast, self.slow / slow, self.second / second)


def kind_of(shape: torch.Size, embedding: bool = False) -> int:
    """MATRIX where a tensor maps columns to rows, VECTOR for all else.

    Args:
        shape: The tensor's.
        embedding: Whether it is a table whose rows are looked up or added: vectors, too.
    """
    rows, columns = rows_and_columns(shape)
    return MATRIX if min(rows, columns) > 1 and not embedding else VECTOR


def rows_and_columns(shape: torch.Size) -> tuple[int, int]:
    """The form in which the rule sees a tensor; columns are its fan-in where it is a matrix."""
    if len(shape) < 2:
        return 1, prod(shape)
    return shape[0], prod(shape[1:])


def bias_corrections(step: int) -> tuple[float, float, float]:
    """What the moments are divided by after ``step`` steps."""
    return 1 - FAST**step, 1 - SLOW**step, 1 - SECOND**step


def accumulate_(moments: Moments, gradient: Tensor) -> None:
    """Takes a gradient into the moments, in place."""
    moments.fast.lerp_(gradient, 1 - FAST)
    moments.slow.lerp_(gradient, 1 - SLOW)
    moments.second.mul_(SECOND).addcmul_(gradient, gradient, value=1 - SECOND)


def direction(
    weights: Weights,
    kind: int,
    gradient: Tensor,
    parameter: Tensor,
    moments: Moments,
    compiled: bool = False,
) -> Tensor:
    """Where to go: the negative of the update, of mean square 1 (about 1 for matrices).

    Args:
        weights: As ``metahpo.optim.weights`` makes them, with a leading batch dimension.
        kind: MATRIX or VECTOR.
        gradient: ``batch x rows x columns``.
        parameter: Likewise.
        moments: Without their bias; the gradient is in them.
        compiled: Whether to compile the parts where that pays: a minute once, then faster.

    Returns:
        ``batch x rows x columns``; zero for a tensor whose gradients all were zero.
    """
    flat = (
        _compiled(_features)(_whole(gradient), _whole(parameter), moments)
        if compiled
        else _features(gradient, parameter, moments)
    )
    mixed = _mixed(weights, kind, flat, compiled).view(gradient.shape)
    return orthogonalised(mixed) if kind == MATRIX else _normalised(mixed)


def _features(gradient: Tensor, parameter: Tensor, moments: Moments) -> Tensor:
    """What the network sees: ``batch x features x elements``, the candidates first."""
    candidates, roots = _candidates(gradient, moments)
    rest = (
        _normalised(parameter),
        (roots.log() / 4).clamp(-4, 4),
        (moments.fast.square() / (moments.second + TINY)).clamp(max=4),
    )
    return torch.stack([part.flatten(1) for part in (*candidates, *rest)], dim=1)


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
    now = wide / (wide.square().sum((-2, -1), keepdim=True) + TINY).sqrt()
    large = min(rows, columns) >= BFLOAT16_SIDE and now.dtype == torch.float32
    if large and _fast_bfloat16(now.device.type):
        now = now.bfloat16()
    first, second, third = NEWTON_SCHULZ
    for _ in range(ITERATIONS):
        gram = now @ now.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=second, alpha=third)
        now = torch.baddbmm(now, polynomial, now, beta=first)
    now = now.to(matrices.dtype)
    return (now.mT if rows > columns else now) * max(rows, columns) ** 0.5


@cache
def _fast_bfloat16(device: str) -> bool:
    """Whether products in bfloat16 are faster than in single precision, and not emulated."""
    if device == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _candidates(gradient: Tensor, moments: Moments) -> tuple[list[Tensor], Tensor]:
    """The candidate directions, of mean square 1 each, and the second moment's relative root."""
    second = moments.second
    mean = second.mean((-2, -1), keepdim=True)
    second = second / (mean + TINY)
    root = (second + RELATIVE_FLOOR).sqrt()
    # Adafactor's second moment of rank one (Shazeer & Stern 2018); the running means of rows and
    # columns are the means of the running mean.
    factored = second.mean(-1, keepdim=True) * second.mean(-2, keepdim=True)
    factored_root = (factored + RELATIVE_FLOOR).sqrt()
    plain = (gradient, moments.fast, moments.slow)
    return [
        _normalised(part / scale) for scale in (1.0, root, factored_root) for part in plain
    ], root


def _mixed(weights: Weights, kind: int, features: Tensor, compiled: bool) -> Tensor:
    """The mixture of the candidates: ``batch x elements``."""
    mix = weights["rule.mix"][:, kind, :, None]
    if compiled:
        return _compiled(mixed_elementwise)(weights, mix, features)
    chunk = CHUNK.get(features.device.type, LARGEST_CHUNK) // len(features)
    chunks = features.split(max(1, chunk), dim=-1)
    return torch.cat([mixed_by_products(weights, mix, chunk) for chunk in chunks], dim=-1)


def mixed_by_products(weights: Weights, mix: Tensor, features: Tensor) -> Tensor:
    """The mixture by products of matrices."""
    hidden = _layer(weights, "rule.first", features).relu_()
    hidden = _layer(weights, "rule.second", hidden).relu_()
    shares = _layer(weights, "rule.last", hidden)
    shares += mix
    return (shares * features[:, :CANDIDATES]).sum(1)


def mixed_elementwise(weights: Weights, mix: Tensor, features: Tensor) -> Tensor:
    """The same, for a compiler to make one loop of: matrices of eight rows are slow to multiply.

    Uncompiled it is slower by far.
    """
    inputs = list(features.unbind(1))
    hidden = [part.relu() for part in _layer_elementwise(weights, "rule.first", inputs)]
    hidden = [part.relu() for part in _layer_elementwise(weights, "rule.second", hidden)]
    shares = _layer_elementwise(weights, "rule.last", hidden)
    mixed = torch.zeros_like(inputs[0])
    for place, share in enumerate(shares):
        mixed = mixed + (share + mix[:, place]) * inputs[place]
    return mixed


def _layer_elementwise(weights: Weights, name: str, inputs: list[Tensor]) -> list[Tensor]:
    weight, bias = weights[f"{name}.weight"][..., None], weights[f"{name}.bias"][..., None]
    outputs = []
    for row in range(weight.shape[1]):
        output = bias[:, row]
        for column, values in enumerate(inputs):
            output = output + weight[:, row, column] * values
        outputs.append(output)
    return outputs


def _whole(tensor: Tensor) -> Tensor:
    # For each form of what a view is a part of, there would be a program of its own.
    return tensor.clone() if tensor._is_view() else tensor


@cache
def _compiled(function: Function) -> Function:
    # Apart from each other: as one program they take many minutes to compile.
    return torch.compile(  # pyright: ignore[reportReturnType]
        function, dynamic=True, fullgraph=True
    )


def _layer(weights: Weights, name: str, inputs: Tensor) -> Tensor:
    return weights[f"{name}.weight"] @ inputs + weights[f"{name}.bias"][..., None]


def _normalised(tensor: Tensor) -> Tensor:
    return tensor / (mean_square(tensor) + TINY).sqrt()


def mean_square(tensor: Tensor) -> Tensor:
    """Over each tensor of the batch: ``batch x 1 x 1``."""
    return tensor.square().mean((-2, -1), keepdim=True)


def layer_scale(kind: int, form: tuple[int, int]) -> float:
    """The size of a layer, to which its steps are relative.

    For a matrix, 1 / sqrt(fan-in), as it starts by every usual initialisation: orthogonal updates
    then change its outputs alike at any width (Yang et al. 2023; muLO, Therien et al. 2024). They
    hold for fan-outs as large as fan-ins; where they are less, feature learning asks for steps
    shorter by the root of their ratio in the limit of large widths; its fourth root did better on
    networks as they are. For the rest, 1.

    VeLO (Metz et al. 2022) takes the root mean square of the parameters as they are: steps in
    one direction then make the next ones longer, and trainings of a thousand steps blow up where
    those of a hundred do not. Where they started is no measure either: tables of positions start
    near zero and have far to go.

    Args:
        kind: MATRIX or VECTOR.
        form: Rows and columns.
    """
    if kind == VECTOR:
        return 1.0
    rows, columns = form
    return columns**-0.5 * min(1.0, rows / columns) ** SHRINK
