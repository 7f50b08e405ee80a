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

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

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
# Elements of a tensor that go through the network at once: bounds the memory of large ones.
CHUNK = 1 << 18

# The quintic iteration of Muon.
NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315
ITERATIONS = 5

TINY = 1e-30
# Of the mean second moment: what keeps parameters that rarely see a gradient from taking leaps.
RELATIVE_FLOOR = 1e-6

Weights = Mapping[str, Tensor]


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


def kind_of(shape: torch.Size) -> int:
    """MATRIX where rows and columns both mean something, VECTOR for all else."""
    rows, columns = rows_and_columns(shape)
    return MATRIX if min(rows, columns) > 1 else VECTOR


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
    weights: Weights, kind: int, gradient: Tensor, parameter: Tensor, moments: Moments
) -> Tensor:
    """Where to go: the negative of the update, of mean square 1 (about 1 for matrices).

    Args:
        weights: As ``metahpo.optim.weights`` makes them, with a leading batch dimension.
        kind: MATRIX or VECTOR.
        gradient: ``batch x rows x columns``.
        parameter: Likewise.
        moments: Without their bias; the gradient is in them.

    Returns:
        ``batch x rows x columns``; zero for a tensor whose gradients all were zero.
    """
    shape = gradient.shape
    candidates, roots = _candidates(gradient, moments)
    rest = (
        _normalised(parameter),
        (roots.log() / 4).clamp(-4, 4),
        (moments.fast.square() / (moments.second + TINY)).clamp(max=4),
    )
    flat = torch.stack([part.flatten(1) for part in (*candidates, *rest)], dim=1)
    mixed = torch.cat(
        [_mixed(weights, kind, chunk) for chunk in flat.split(CHUNK, dim=-1)], dim=-1
    ).view(shape)
    return orthogonalised(mixed) if kind == MATRIX else _normalised(mixed)


def orthogonalised(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices, near enough, times sqrt(max(rows, columns)).

    So the mean square is about 1 where the rank is full, and less where it is not. Newton-Schulz
    iteration with the coefficients of Jordan et al. 2024, which leave singular values between
    about 0.7 and 1.2. Zero stays zero.

    Args:
        matrices: ``batch x rows x columns``.
    """
    rows, columns = matrices.shape[-2:]
    wide = matrices.mT if rows > columns else matrices
    now = wide / (wide.square().sum((-2, -1), keepdim=True) + TINY).sqrt()
    for _ in range(ITERATIONS):
        gram = now @ now.mT
        first, second, third = NEWTON_SCHULZ
        now = first * now + (second * gram + third * (gram @ gram)) @ now
    return (now.mT if rows > columns else now) * max(rows, columns) ** 0.5


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


def _mixed(weights: Weights, kind: int, features: Tensor) -> Tensor:
    """The mixture of the candidates; features are ``batch x features x elements``."""
    hidden = _layer(weights, "rule.first", features).relu_()
    hidden = _layer(weights, "rule.second", hidden).relu_()
    shares = _layer(weights, "rule.last", hidden)
    shares += weights["rule.mix"][:, kind, :, None]
    return (shares * features[:, :CANDIDATES]).sum(1)


def _layer(weights: Weights, name: str, inputs: Tensor) -> Tensor:
    return weights[f"{name}.weight"] @ inputs + weights[f"{name}.bias"][..., None]


def _normalised(tensor: Tensor) -> Tensor:
    return tensor / (mean_square(tensor) + TINY).sqrt()


def mean_square(tensor: Tensor) -> Tensor:
    """Over each tensor of the batch: ``batch x 1 x 1``."""
    return tensor.square().mean((-2, -1), keepdim=True)


def layer_scale(weights: Weights, kind: int, parameter: Tensor) -> Tensor:
    """The size of a layer, to which its steps are relative.

    The root mean square of its parameters (as in VeLO, Metz et al. 2022), yet never less than a
    learned floor, so that what starts at zero can move. Matrices shrink by the root of fan-in
    over fan-out where that is above one, and their floor is relative to 1 / sqrt(fan-in): updates
    then are of spectral size sqrt(fan-out / fan-in) at any width, as feature learning needs
    (Yang et al. 2023; muLO, Therien et al. 2024).

    Args:
        weights: With a leading batch dimension.
        kind: MATRIX or VECTOR.
        parameter: ``batch x rows x columns``.

    Returns:
        ``batch x 1 x 1``.
    """
    rows, columns = parameter.shape[-2:]
    floor = weights["step.log_floor"][:, kind, None, None].exp()
    if kind == VECTOR:
        return (mean_square(parameter) + floor.square()).sqrt()
    size = (mean_square(parameter) + floor.square() / columns).sqrt()
    return size * min(1.0, rows / columns) ** 0.5
