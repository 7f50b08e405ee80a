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

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from math import prod
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from metahpo.optim.orthogonal import orthogonalised

# The decay rates of the two momenta and of the second moment.
FAST, SLOW, SECOND = 0.9, 0.99, 0.98
# Candidates: gradient and two momenta; as they are, over the root of the second moment, and over
# that of its factored form.
CANDIDATES = 9
FEATURES = CANDIDATES + 3
HIDDEN = 8
# Of the features, the candidates and the parameter are of mean square 1 over a tensor.
NORMALISED = CANDIDATES + 1
# Rows of the weights that differ by kind of tensor.
MATRIX, VECTOR, EMBEDDING = 0, 1, 2
KINDS = 3
# Elements that go through the network at once: bounds the memory of large tensors, and keeps a
# processor within its cache.
CHUNK = {"cpu": 1 << 15}
LARGEST_CHUNK = 1 << 20

# How much less a matrix moves that has fewer rows than columns: see ``layer_scale``.
SHRINK = 0.25

TINY = 1e-30
# Of the mean second moment: what keeps parameters that rarely see a gradient from taking leaps.
RELATIVE_FLOOR = 1e-6

Weights = Mapping[str, Tensor]
Function = TypeVar("Function", bound=Callable[..., Any])


class Moments(NamedTuple):
    """Running means of the gradient and of its square, each ``batch x rows x columns``.

    The slow one is None where nothing takes it (``metahpo.optim.fixed``).
    """

    fast: Tensor
    second: Tensor
    slow: Tensor | None = None

    def corrected(self, step: int) -> Moments:
        """Without the bias of having started at zero, ``step`` steps ago."""
        fast, second, slow = (1 - decay**step for decay in (FAST, SECOND, SLOW))
        return Moments(
            self.fast / fast, self.second / second, None if self.slow is None else self.slow / slow
        )


def kind_of(shape: torch.Size, embedding: bool = False) -> int:
    """MATRIX where a tensor maps columns to rows, VECTOR where it does not.

    Args:
        shape: The tensor's.
        embedding: Whether it is a table whose rows are looked up or added: EMBEDDING.
    """
    rows, columns = rows_and_columns(shape)
    if embedding:
        return EMBEDDING
    return MATRIX if min(rows, columns) > 1 else VECTOR


def rows_and_columns(shape: torch.Size) -> tuple[int, int]:
    """The form in which the rule sees a tensor; columns are its fan-in where it is a matrix."""
    if len(shape) < 2:
        return 1, prod(shape)
    return shape[0], prod(shape[1:])


def accumulate_(moments: Moments, gradient: Tensor) -> None:
    """Takes a gradient into the moments, in place."""
    moments.fast.lerp_(gradient, 1 - FAST)
    if moments.slow is not None:
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
        kind: MATRIX, VECTOR or EMBEDDING.
        gradient: ``batch x rows x columns``.
        parameter: Likewise.
        moments: Without their bias; the gradient is in them.
        compiled: Whether to compile the parts where that pays: a minute once, then faster.

    Returns:
        ``batch x rows x columns``; zero for a tensor whose gradients all were zero.
    """
    mixed = (
        _mixed_compiled(weights, kind, gradient, parameter, moments)
        if compiled
        else _mixed(weights, kind, gradient, parameter, moments)
    )
    return finished(kind, mixed)


def finished(kind: int, mixed: Tensor) -> Tensor:
    """The direction, of what is mixed: made orthogonal for matrices, normalised for the rest."""
    return orthogonalised(mixed) if kind == MATRIX else _normalised(mixed)


# ---- what the network sees -------------------------------------------------------------------


def _raw(
    gradient: Tensor, parameter: Tensor, moments: Moments, columns: Tensor
) -> tuple[Tensor, ...]:
    """The features of some rows before they are normalised: candidates, parameter, two more.

    Args:
        gradient: ``batch x rows x columns``.
        parameter: Likewise.
        moments: Likewise.
        columns: The mean of the second moment over all rows: ``batch x 1 x columns``.
    """
    own_root = root(moments.second, columns)
    plain = (gradient, moments.fast, slow_momentum(moments))
    scales = (1.0, own_root, factored_root(moments.second, columns))
    return (
        *(part / scale for scale in scales for part in plain),
        parameter,
        (own_root.log() / 4).clamp(-4, 4),
        (moments.fast.square() / (moments.second + TINY)).clamp(max=4),
    )


def slow_momentum(moments: Moments) -> Tensor:
    """The slow momentum; raises ValueError where it was not kept."""
    if moments.slow is None:
        raise ValueError("these weights take the slow momentum, and there is none")
    return moments.slow


def root(second: Tensor, columns: Tensor | None = None) -> Tensor:
    """The root of the second moment, whose mean is taken for 1: ``batch x rows x columns``.

    Args:
        second: All rows, or some.
        columns: The mean over all rows, where these are not all.
    """
    columns = second.mean(-2, keepdim=True) if columns is None else columns
    return (second / (columns.mean(-1, keepdim=True) + TINY) + RELATIVE_FLOOR).sqrt()


def factored_root(second: Tensor, columns: Tensor | None = None) -> Tensor:
    """Likewise of Adafactor's second moment of rank one (Shazeer & Stern 2018).

    The running means of rows and columns are the means of the running mean.
    """
    columns = second.mean(-2, keepdim=True) if columns is None else columns
    mean = columns.mean(-1, keepdim=True) + TINY
    rows = second.mean(-1, keepdim=True) / mean
    return (rows * (columns / mean) + RELATIVE_FLOOR).sqrt()


def _sizes(blocks: Iterable[tuple[Tensor, ...]]) -> Tensor:
    """Root mean squares over tensors of what is normalised: ``NORMALISED x batch x 1 x 1``."""
    squares, count = [], 0
    for raw in blocks:
        parts = [part.square().sum((-2, -1), keepdim=True) for part in raw[:NORMALISED]]
        squares.append(torch.stack(parts))
        count += raw[0].shape[-2] * raw[0].shape[-1]
    return (torch.stack(squares).sum(0) / count + TINY).sqrt()


def _features(raw: tuple[Tensor, ...], sizes: Tensor) -> Tensor:
    """``batch x features x elements``, the candidates first."""
    normal = (part / size for part, size in zip(raw, sizes, strict=False))
    return torch.stack([part.flatten(1) for part in (*normal, *raw[NORMALISED:])], dim=1)


def _all_features(gradient: Tensor, parameter: Tensor, moments: Moments) -> Tensor:
    raw = _raw(gradient, parameter, moments, moments.second.mean(-2, keepdim=True))
    return _features(raw, _sizes([raw]))


# ---- what it makes of it ---------------------------------------------------------------------


def _mixed(
    weights: Weights, kind: int, gradient: Tensor, parameter: Tensor, moments: Moments
) -> Tensor:
    """The mixture of the candidates, ``batch x rows x columns``; of large tensors, by some rows.

    The features of all at once would take twelve times the memory of the tensor.
    """
    mix = weights["rule.mix"][:, kind, :, None]
    batch, rows, columns = gradient.shape
    at_once = CHUNK.get(gradient.device.type, LARGEST_CHUNK) // max(1, batch * columns)
    if rows <= max(1, at_once):
        features = _all_features(gradient, parameter, moments)
        return mixed_by_products(weights, mix, features).view(gradient.shape)
    means = moments.second.mean(-2, keepdim=True)
    whole = (gradient, parameter, moments.fast, moments.second, slow_momentum(moments))
    split = [part.split(max(1, at_once), -2) for part in whole]
    blocks = [(g, p, Moments(*m), means) for g, p, *m in zip(*split, strict=True)]
    sizes = _sizes(_raw(*block) for block in blocks)
    mixed = [mixed_by_products(weights, mix, _features(_raw(*block), sizes)) for block in blocks]
    return torch.cat(mixed, -1).view(gradient.shape)


def _mixed_compiled(
    weights: Weights, kind: int, gradient: Tensor, parameter: Tensor, moments: Moments
) -> Tensor:
    """The same."""
    mix = weights["rule.mix"][:, kind, :, None]
    features = _compiled(_all_features)(_whole(gradient), _whole(parameter), moments)
    return _compiled(mixed_elementwise)(weights, mix, features).view(gradient.shape)


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
    return tensor / (tensor.square().mean((-2, -1), keepdim=True) + TINY).sqrt()


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
        kind: MATRIX, VECTOR or EMBEDDING.
        form: Rows and columns.
    """
    if kind != MATRIX:
        return 1.0
    rows, columns = form
    return columns**-0.5 * min(1.0, rows / columns) ** SHRINK
