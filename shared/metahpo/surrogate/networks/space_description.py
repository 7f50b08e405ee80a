"""What a neural surrogate is told of a search space: each hyperparameter's description.

Nothing in it depends on the order of the hyperparameters or of their choices. Each has a code of
its own, made from its name, by which a network can tell two apart that are described alike;
choices likewise.

Notation: d hyperparameters, K the largest number of choices.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor
from torch.nn.functional import pad

from metahpo.tasks.alignment import identity_of, role_of
from metahpo.tasks.space import Space

# Signs in a code: of so many, two names share all once in 17 million pairs.
IDENTITY_SIGNS = 24
CHOICE_SIGNS = 16
# Float, int, categorical, log, low, high, levels, conditional.
FACTS = 8


@dataclass(frozen=True, eq=False)
class Description:
    """Search spaces as tensors, one for each element of the batch.

    Attributes:
        facts: ``batch_shape x d x FACTS``, type, scale, bounds and levels.
        roles: ``batch_shape x d``, whole numbers; 0 for an unknown one.
        identities: ``batch_shape x d x IDENTITY_SIGNS``, codes.
        choices: ``batch_shape x d``, how many; 0 for a numerical hyperparameter.
        choice_codes: ``batch_shape x d x K x CHOICE_SIGNS``, 0 where there is no choice.
        present: ``batch_shape x d``, False where a space of the batch has fewer hyperparameters.
    """

    facts: Tensor
    roles: Tensor
    identities: Tensor
    choices: Tensor
    choice_codes: Tensor
    present: Tensor

    @property
    def batch_shape(self) -> torch.Size:
        """Of the spaces."""
        return self.roles.shape[:-1]

    def to(self, device: torch.device | str) -> Description:
        """On another device."""
        moved = {name: tensor.to(device) for name, tensor in vars(self).items()}
        return replace(self, **moved)

    def permuted(self, order: Tensor) -> Description:
        """With the hyperparameters in another order.

        Args:
            order: d.
        """
        axes = {"facts": -2, "identities": -2, "choice_codes": -3}
        moved = {
            name: tensor.index_select(axes.get(name, -1), order)
            for name, tensor in vars(self).items()
        }
        return replace(self, **moved)


def describe(space: Space) -> Description:
    """The description of one space, without batch dimension."""
    columns = list(space.distributions.items())
    most = max([space.levels[i] for i, c in enumerate(space.is_categorical) if c], default=0)
    codes = np.zeros((len(columns), max(most, 1), CHOICE_SIGNS), np.float32)
    for row, (_, distribution) in enumerate(columns):
        if isinstance(distribution, CategoricalDistribution):
            for column, choice in enumerate(distribution.choices):
                codes[row, column] = choice_code(choice)
    categorical = np.asarray(space.is_categorical, bool)
    return Description(
        facts=torch.tensor(
            [_facts(distribution, name in space.conditions) for name, distribution in columns]
        ).reshape(len(columns), FACTS),
        roles=torch.tensor([role_of(name) for name in space], dtype=torch.long),
        identities=torch.from_numpy(_identities(space)),
        choices=torch.from_numpy(np.where(categorical, space.levels, 0).astype(np.int64)),
        choice_codes=torch.from_numpy(codes),
        present=torch.ones(len(columns), dtype=torch.bool),
    )


def stack(descriptions: Sequence[Description]) -> Description:
    """Descriptions of several spaces as one batch, the smaller ones filled up."""
    d = max(description.roles.shape[0] for description in descriptions)
    k = max(description.choice_codes.shape[-2] for description in descriptions)

    def filled(tensor: Tensor, rows: int, dims: int) -> Tensor:
        # From the last dimension on: signs, choices if any, hyperparameters.
        missing = rows - tensor.shape[0]
        if dims == 1:
            return pad(tensor, (0, missing))
        if dims == 2:
            return pad(tensor, (0, 0, 0, missing))
        return pad(tensor, (0, 0, 0, k - tensor.shape[1], 0, missing))

    batched = {
        name: torch.stack([filled(vars(x)[name], d, vars(x)[name].ndim) for x in descriptions])
        for name in vars(descriptions[0])
    }
    return Description(**batched)


def choice_code(choice: Any) -> np.ndarray:
    """CHOICE_SIGNS signs that belong to a choice by its text, whatever its case."""
    return _signs(f"choice {type(choice).__name__} {str(choice).lower()}", CHOICE_SIGNS)


def _identities(space: Space) -> np.ndarray:
    """``d x IDENTITY_SIGNS``. The second of two synonyms in one space goes by its own name."""
    taken: set[str] = set()
    codes = np.zeros((len(space), IDENTITY_SIGNS), np.float32)
    # By name, so that the order of the columns does not matter.
    for row in sorted(range(len(space)), key=lambda index: space.names[index]):
        identity = identity_of(space.names[row])
        if identity in taken:
            identity = f"{identity} {space.names[row]}"
        taken.add(identity)
        codes[row] = _signs(identity, IDENTITY_SIGNS)
    return codes


@lru_cache(maxsize=4096)
def _signs(text: str, count: int) -> np.ndarray:
    """So many signs, the same for the same text on every machine."""
    bits = np.unpackbits(np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8))
    return (2.0 * bits[:count] - 1.0).astype(np.float32)


def _facts(distribution: Any, conditional: bool) -> list[float]:
    if isinstance(distribution, CategoricalDistribution):
        return [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, _logarithm(len(distribution.choices)),
                float(conditional)]  # fmt: skip
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    whole = isinstance(distribution, IntDistribution)
    levels = 0.0
    if whole or distribution.step is not None:
        levels = (distribution.high - distribution.low) / (distribution.step or 1) + 1.0
    return [
        float(not whole),
        float(whole),
        0.0,
        float(distribution.log),
        _magnitude(distribution.low),
        _magnitude(distribution.high),
        _logarithm(levels),
        float(conditional),
    ]


def _logarithm(count: float) -> float:
    return math.log1p(min(count, 1e9)) / 5.0


def _magnitude(number: float) -> float:
    """A bound's order of magnitude with its sign: thousandths and thousands differ."""
    bounded = min(abs(float(number)), 1e12)
    return math.copysign(math.log1p(bounded * 1e4) / 10.0, number)
