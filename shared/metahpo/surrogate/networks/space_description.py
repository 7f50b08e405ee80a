"""Descriptions of search spaces, the input of the neural surrogates beside trials.

A description does not depend on the order of the hyperparameters or of their choices. Each
hyperparameter has a code derived from its name, which distinguishes two with the same type and
bounds; so does each choice.

Notation: d hyperparameters, K the largest number of choices.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
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
from metahpo.tasks.choices import choice_text
from metahpo.tasks.space import Space

# Length of a code: two names have the same 24 signs once in 17 million pairs.
IDENTITY_SIGNS = 24
CHOICE_SIGNS = 16
# Facts: float, int, categorical, log, low, high, levels, conditional.
FACTS = 8
LOW_FACT, HIGH_FACT = 4, 5


# Choices of these are told apart by their texts.
_WITH_OWN_TEXT = (str, int, float, bool, type(None))


@dataclass(frozen=True, eq=False)
class Description:
    """Search spaces as tensors, one for each element of the batch.

    Attributes:
        facts: ``batch_shape x d x FACTS``, type, scale, bounds and levels.
        roles: ``batch_shape x d``, rows of the synonym table; 0 for an unknown name.
        identities: ``batch_shape x d x IDENTITY_SIGNS``, codes of the names.
        choices: ``batch_shape x d``, number of choices; 0 for a numerical hyperparameter.
        choice_codes: ``batch_shape x d x K x CHOICE_SIGNS``, codes of the choices; 0 for padding.
        present: ``batch_shape x d``, False for padding.
    """

    facts: Tensor
    roles: Tensor
    identities: Tensor
    choices: Tensor
    choice_codes: Tensor
    present: Tensor

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the batch of spaces."""
        return self.roles.shape[:-1]

    def to(self, device: torch.device | str) -> Description:
        """Return a copy on the given device."""
        moved = {name: tensor.to(device) for name, tensor in vars(self).items()}
        return replace(self, **moved)

    def permuted(self, order: Tensor) -> Description:
        """Select hyperparameters, in the given order.

        Args:
            order: Their indices.
        """
        axes = {"facts": -2, "identities": -2, "choice_codes": -3}
        moved = {
            name: tensor.index_select(axes.get(name, -1), order)
            for name, tensor in vars(self).items()
        }
        return replace(self, **moved)


def describe(space: Space) -> Description:
    """Describe one space, without batch dimension."""
    columns = list(space.distributions.items())
    most = max([space.levels[i] for i, c in enumerate(space.is_categorical) if c], default=0)
    codes = np.zeros((len(columns), max(most, 1), CHOICE_SIGNS), np.float32)
    for row, (_, distribution) in enumerate(columns):
        if isinstance(distribution, CategoricalDistribution):
            codes[row, : len(distribution.choices)] = _choice_codes(distribution.choices)
    categorical = np.asarray(space.is_categorical, bool)
    return Description(
        facts=torch.tensor(
            [_facts(distribution, name in space.conditions) for name, distribution in columns],
            dtype=torch.float32,
        ).reshape(len(columns), FACTS),
        roles=torch.tensor([role_of(name) for name in space], dtype=torch.long),
        identities=torch.from_numpy(_identities(space)),
        choices=torch.from_numpy(np.where(categorical, space.levels, 0).astype(np.int64)),
        choice_codes=torch.from_numpy(codes),
        present=torch.ones(len(columns), dtype=torch.bool),
    )


def stack(descriptions: Sequence[Description]) -> Description:
    """Stack descriptions of spaces into one batch, padding the smaller ones."""
    d = max(description.roles.shape[0] for description in descriptions)
    k = max(description.choice_codes.shape[-2] for description in descriptions)

    def padded(tensor: Tensor, rows: int, dims: int) -> Tensor:
        # pad() takes the last dimension first: signs, then choices, then hyperparameters.
        missing = rows - tensor.shape[0]
        if dims == 1:
            return pad(tensor, (0, missing))
        if dims == 2:
            return pad(tensor, (0, 0, 0, missing))
        return pad(tensor, (0, 0, 0, k - tensor.shape[1], 0, missing))

    batched = {
        name: torch.stack([padded(vars(x)[name], d, vars(x)[name].ndim) for x in descriptions])
        for name in vars(descriptions[0])
    }
    return Description(**batched)


def _choice_codes(choices: Sequence[Any]) -> np.ndarray:
    """Return the codes of choices, ``K x CHOICE_SIGNS``, from type and lower-case text.

    The texts of objects may agree, as those of all lambdas do: they are numbered.
    """
    codes, seen = np.empty((len(choices), CHOICE_SIGNS), np.float32), Counter[str]()
    for row, choice in enumerate(choices):
        text = _text(choice)
        if not isinstance(choice, _WITH_OWN_TEXT):
            seen[text] += 1
            text += f" {seen[text]}" if seen[text] > 1 else ""
        codes[row] = _signs(f"choice {type(choice).__name__} {text.lower()}", CHOICE_SIGNS)
    return codes


def _text(choice: Any) -> str:
    # Texts of other objects may contain addresses in memory, which differ between processes.
    return str(choice) if isinstance(choice, _WITH_OWN_TEXT) else choice_text(choice)


def _identities(space: Space) -> np.ndarray:
    """Return the codes of the hyperparameters, ``d x IDENTITY_SIGNS``.

    Synonyms share a code, but a second synonym in the same space gets one from its own name.
    """
    taken: set[str] = set()
    codes = np.zeros((len(space), IDENTITY_SIGNS), np.float32)
    # Sorted by name, so that the result does not depend on the order of the columns.
    for row in sorted(range(len(space)), key=lambda index: space.names[index]):
        identity = identity_of(space.names[row])
        if identity in taken:
            identity = f"{identity} {space.names[row]}"
        taken.add(identity)
        codes[row] = _signs(identity, IDENTITY_SIGNS)
    return codes


@lru_cache(maxsize=4096)
def _signs(text: str, count: int) -> np.ndarray:
    """Return ``count`` signs from a hash of the text, the same on every machine."""
    # Names of hyperparameters may hold lone surrogates, which JSON can express and UTF-8 cannot.
    encoded = text.encode(errors="surrogatepass")
    bits = np.unpackbits(np.frombuffer(hashlib.sha256(encoded).digest(), np.uint8))
    return (2.0 * bits[:count] - 1.0).astype(np.float32)


def _facts(distribution: Any, conditional: bool) -> list[float]:
    if isinstance(distribution, CategoricalDistribution):
        return [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, _logarithm(len(distribution.choices)),
                float(conditional)]  # fmt: skip
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    integer = isinstance(distribution, IntDistribution)
    levels = 0.0
    if integer or distribution.step is not None:
        levels = (distribution.high - distribution.low) / (distribution.step or 1) + 1.0
    return [
        float(not integer),
        float(integer),
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
    """Return a signed logarithm of a bound that resolves both thousandths and thousands."""
    bounded = min(abs(float(number)), 1e12)
    return math.copysign(math.log1p(bounded * 1e4) / 10.0, number)
