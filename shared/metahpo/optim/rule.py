"""The learned update rule: from gradients to a normalised direction. Pure and batched.

Every tensor has the form ``batch x rows x columns``: a matrix as it is, a convolution kernel with
one row per output channel, a vector or scalar as one row. The batch holds tensors of equal shape
of one network, or the networks of a meta-training; the weights have a leading batch dimension of
the same length or 1.

The rule follows Celo2 (a tiny network applied to each parameter, output normalised over the
tensor) with features of Metz et al. 2022 (small_fc), but the network returns coefficients of nine
candidate directions instead of a direction. While the network returns zero, the rule is a constant
mixture of candidates, such as momentum or Adam, and a parameter without a gradient never moves.
For matrices the mixture is then orthogonalised (Newton-Schulz, as in Muon, Jordan et al. 2024, and
in the full form of Celo2).

Notation: a mixture is what the rule returns before it is orthogonalised or normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from math import prod
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from metahpo.optim.orthogonal import orthogonalised

# Decay rates of the two momenta and of the second moment.
FAST, SLOW, SECOND = 0.9, 0.99, 0.98
# Candidates: gradient, fast and slow momentum; then the same over the root of the second moment;
# then over the root of its factored form.
CANDIDATES = 9
FEATURES = CANDIDATES + 3
HIDDEN = 8
# The first features, candidates and parameter, are normalised to mean square 1 over a tensor.
NORMALISED = CANDIDATES + 1
# Kinds of tensors: rows of the weights that differ between kinds.
MATRIX, VECTOR, EMBEDDING = 0, 1, 2
KINDS = 3
# Elements that pass through the network at once, by device: bounds the memory for large tensors,
# and keeps a CPU within its cache.
CHUNK = {"cpu": 1 << 15}
LARGEST_CHUNK = 1 << 20

# Exponent of rows / columns by which a matrix with fewer rows than columns moves less.
SHRINK = 0.25

TINY = 1e-30
# Lower bound of the second moment, relative to its mean: without it, parameters that rarely get a
# gradient would make huge steps.
RELATIVE_FLOOR = 1e-6

Weights = Mapping[str, Tensor]
Function = TypeVar("Function", bound=Callable[..., Any])


class Moments(NamedTuple):
    """Running means of the gradient and of its square, each ``batch x rows x columns``.

    Attributes:
        fast: Of the gradient, with decay ``FAST``.
        second: Of its square, with decay ``SECOND``.
        slow: Of the gradient, with decay ``SLOW``; None if no candidate needs it
            (``metahpo.optim.fixed``).
    """

    fast: Tensor
    second: Tensor
    slow: Tensor | None = None

    def corrected(self, step: int) -> Moments:
        """Return bias-corrected moments, as in Adam, after ``step`` steps from zero."""
        fast, second, slow = (1 - decay**step for decay in (FAST, SECOND, SLOW))
        return Moments(
            self.fast / fast, self.second / second, None if self.slow is None else self.slow / slow
        )


def kind_of(shape: torch.Size, embedding: bool = False) -> int:
    """The kind of a tensor: MATRIX, VECTOR (one row or one column) or EMBEDDING.

    Args:
        shape: Shape of the tensor.
        embedding: Whether it is a table whose rows are looked up, or added to activations.
    """
    rows, columns = rows_and_columns(shape)
    if embedding:
        return EMBEDDING
    return MATRIX if min(rows, columns) > 1 else VECTOR


def rows_and_columns(shape: torch.Size) -> tuple[int, int]:
    """The number of rows and columns as which the rule treats a tensor; columns are the fan-in."""
    if len(shape) < 2:
        return 1, prod(shape)
    return shape[0], prod(shape[1:])


def accumulate_(moments: Moments, gradient: Tensor) -> None:
    """Update the moments with a gradient, in place."""
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
    """The direction to subtract from a parameter, of mean square 1 (about 1 for matrices).

    Args:
        weights: As in ``metahpo.optim.weights``, with a leading batch dimension.
        kind: MATRIX, VECTOR or EMBEDDING.
        gradient: ``batch x rows x columns``.
        parameter: ``batch x rows x columns``.
        moments: Bias-corrected, including this gradient.
        compiled: Whether to compile features and network: a minute once, then faster.

    Returns:
        ``batch x rows x columns``; zero for a tensor whose gradients were all zero.
    """
    mix = _mix_compiled if compiled else _mix
    return mixture_to_direction(kind, mix(weights, kind, gradient, parameter, moments))


def mixture_to_direction(kind: int, mixture: Tensor) -> Tensor:
    """Orthogonalise a mixture for matrices, normalise it for the rest."""
    return orthogonalised(mixture) if kind == MATRIX else _normalised(mixture)


# ---- features --------------------------------------------------------------------------------


def _raw(
    gradient: Tensor, parameter: Tensor, moments: Moments, columns: Tensor
) -> tuple[Tensor, ...]:
    """The features of some rows before normalisation: candidates, parameter, two more.

    Args:
        gradient: ``batch x rows x columns``.
        parameter: ``batch x rows x columns``.
        moments: Each ``batch x rows x columns``.
        columns: Mean of the second moment over all rows of the tensor, ``batch x 1 x columns``.
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
    """The slow momentum; raises ValueError if it was not kept."""
    if moments.slow is None:
        raise ValueError("these weights need the slow momentum, but moments.slow is None")
    return moments.slow


def root(second: Tensor, columns: Tensor | None = None) -> Tensor:
    """The root of the second moment divided by its mean: ``batch x rows x columns``.

    Args:
        second: Second moment of all rows, or of some.
        columns: Its mean over all rows, ``batch x 1 x columns``; required for some rows only.
    """
    columns = second.mean(-2, keepdim=True) if columns is None else columns
    return (second / (columns.mean(-1, keepdim=True) + TINY) + RELATIVE_FLOOR).sqrt()


def factored_root(second: Tensor, columns: Tensor | None = None) -> Tensor:
    """The same for the rank-one second moment of Adafactor (Shazeer & Stern 2018).

    Row and column means of the running mean equal running means of rows and columns, so that no
    further state is needed.
    """
    columns = second.mean(-2, keepdim=True) if columns is None else columns
    mean = columns.mean(-1, keepdim=True) + TINY
    rows = second.mean(-1, keepdim=True) / mean
    return (rows * (columns / mean) + RELATIVE_FLOOR).sqrt()


def _sizes(blocks: Iterable[tuple[Tensor, ...]]) -> Tensor:
    """Root mean square of each normalised feature over the tensor, given in blocks of rows.

    Returns:
        ``NORMALISED x batch x 1 x 1``.
    """
    squares, count = [], 0
    for raw in blocks:
        parts = [part.square().sum((-2, -1), keepdim=True) for part in raw[:NORMALISED]]
        squares.append(torch.stack(parts))
        count += raw[0].shape[-2] * raw[0].shape[-1]
    return (torch.stack(squares).sum(0) / count + TINY).sqrt()


def _features(raw: tuple[Tensor, ...], sizes: Tensor) -> Tensor:
    """Normalise and stack features: ``batch x features x elements``, candidates first."""
    normal = (part / size for part, size in zip(raw, sizes, strict=False))
    return torch.stack([part.flatten(1) for part in (*normal, *raw[NORMALISED:])], dim=1)


def _all_features(gradient: Tensor, parameter: Tensor, moments: Moments) -> Tensor:
    raw = _raw(gradient, parameter, moments, moments.second.mean(-2, keepdim=True))
    return _features(raw, _sizes([raw]))


# ---- mixture ---------------------------------------------------------------------------------


def _mix(
    weights: Weights, kind: int, gradient: Tensor, parameter: Tensor, moments: Moments
) -> Tensor:
    """The mixture of the candidates, ``batch x rows x columns``.

    Large tensors are processed in blocks of rows, because the features take twelve times the
    memory of the tensor.
    """
    mix = weights["rule.mix"][:, kind, :, None]
    batch, rows, columns = gradient.shape
    block_rows = max(1, CHUNK.get(gradient.device.type, LARGEST_CHUNK) // max(1, batch * columns))
    if rows <= block_rows:
        features = _all_features(gradient, parameter, moments)
        return mix_with_matmul(weights, mix, features).view(gradient.shape)
    means = moments.second.mean(-2, keepdim=True)
    whole = (gradient, parameter, moments.fast, moments.second, slow_momentum(moments))
    split = [part.split(block_rows, -2) for part in whole]
    blocks = [(g, p, Moments(*m), means) for g, p, *m in zip(*split, strict=True)]
    sizes = _sizes(_raw(*block) for block in blocks)
    mixed = [mix_with_matmul(weights, mix, _features(_raw(*block), sizes)) for block in blocks]
    return torch.cat(mixed, -1).view(gradient.shape)


def _mix_compiled(
    weights: Weights, kind: int, gradient: Tensor, parameter: Tensor, moments: Moments
) -> Tensor:
    mix = weights["rule.mix"][:, kind, :, None]
    features = _compiled(_all_features)(
        _without_views(gradient), _without_views(parameter), moments
    )
    return _compiled(mix_elementwise)(weights, mix, features).view(gradient.shape)


def mix_with_matmul(weights: Weights, mix: Tensor, features: Tensor) -> Tensor:
    """Apply the network with matrix products, and mix the candidates.

    Args:
        weights: With a leading batch dimension.
        mix: Constant coefficients, ``batch x candidates x 1``.
        features: ``batch x features x elements``.

    Returns:
        ``batch x elements``.
    """
    hidden = _layer(weights, "rule.first", features).relu_()
    hidden = _layer(weights, "rule.second", hidden).relu_()
    coefficients = _layer(weights, "rule.last", hidden)
    coefficients += mix
    return (coefficients * features[:, :CANDIDATES]).sum(1)


def mix_elementwise(weights: Weights, mix: Tensor, features: Tensor) -> Tensor:
    """``mix_with_matmul`` as elementwise operations, which a compiler fuses into one loop.

    Compiled, it is faster than products of matrices with eight rows; uncompiled, far slower.
    """
    inputs = list(features.unbind(1))
    hidden = [part.relu() for part in _layer_elementwise(weights, "rule.first", inputs)]
    hidden = [part.relu() for part in _layer_elementwise(weights, "rule.second", hidden)]
    coefficients = _layer_elementwise(weights, "rule.last", hidden)
    mixed = torch.zeros_like(inputs[0])
    for candidate, coefficient in enumerate(coefficients):
        mixed = mixed + (coefficient + mix[:, candidate]) * inputs[candidate]
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


def _without_views(tensor: Tensor) -> Tensor:
    # torch.compile specialises on the base tensor of a view: one program for each shape of base.
    return tensor.clone() if tensor._is_view() else tensor


@cache
def _compiled(function: Function) -> Function:
    # Features and network are compiled separately: as one program they take many minutes.
    return torch.compile(  # pyright: ignore[reportReturnType]
        function, dynamic=True, fullgraph=True
    )


def _layer(weights: Weights, name: str, inputs: Tensor) -> Tensor:
    return weights[f"{name}.weight"] @ inputs + weights[f"{name}.bias"][..., None]


def _normalised(tensor: Tensor) -> Tensor:
    return tensor / (tensor.square().mean((-2, -1), keepdim=True) + TINY).sqrt()


def layer_scale(kind: int, shape: tuple[int, int]) -> float:
    """The factor from relative step size to step size: 1, or the scale of a matrix.

    For a matrix, 1 / sqrt(fan-in), its scale after every usual initialisation: orthogonal updates
    then change the outputs equally at any width (Yang et al. 2023; muLO, Therien et al. 2024).
    That holds for fan-outs as large as fan-ins. For smaller fan-outs, feature learning requires
    steps shorter by the square root of their ratio in the limit of infinite width; the fourth
    root worked better on networks of usual size.

    VeLO (Metz et al. 2022) uses the root mean square of the current parameters. Steps in one
    direction then lengthen the next ones, and trainings of a thousand steps diverge although those
    of a hundred do not. The root mean square of the initial parameters fails too: position
    embeddings start near zero and have far to go.

    Args:
        kind: MATRIX, VECTOR or EMBEDDING.
        shape: Rows and columns.
    """
    if kind != MATRIX:
        return 1.0
    rows, columns = shape
    return columns**-0.5 * min(1.0, rows / columns) ** SHRINK
