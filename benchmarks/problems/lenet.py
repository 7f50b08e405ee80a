"""LeNet-5 (LeCun et al. 1998) on MNIST, trained live on two thousand images.

The task to be measured on has all ten digits. Its past are LeNets that tell some of the digits
apart. MNIST is read from ``mnist/mnist.npz`` in the benchmark data (``--data``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor, nn

from benchmarks.problems.base import DataMissingError, TaskRefusedError
from benchmarks.problems.live import LiveProblem
from examples.mlp_problem import build_optimizer
from metahpo.tasks.space import Configuration, Space

DIGITS = {
    "all-digits": tuple(range(10)),
    "even-digits": (0, 2, 4, 6, 8),
    "odd-digits": (1, 3, 5, 7, 9),
    "low-digits": (0, 1, 2, 3, 4),
    "high-digits": (5, 6, 7, 8, 9),
    "round-digits": (0, 3, 6, 8, 9),
}
VALIDATION = ("all-digits",)
HISTORY = tuple(task for task in DIGITS if task not in VALIDATION)
TRAINING_IMAGES = 2_000
VALIDATION_IMAGES = 2_000
EPOCHS = 3

SPACE = Space(
    {
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
        "dropout": FloatDistribution(0.0, 0.6),
        "batch_size": IntDistribution(16, 256, log=True),
        "activation": CategoricalDistribution(["tanh", "relu"]),
        "optimizer": CategoricalDistribution(["sgd", "adamw", "rmsprop"]),
    }
)
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


@dataclass(frozen=True)
class LeNetProblem(LiveProblem):
    """LeNet-5 to be tuned on a set of digits.

    Raises:
        TaskRefusedError: For a set of digits that the family does not have.
        DataMissingError: Where MNIST is not in the benchmark data.
    """

    task: str
    data: Path

    def __post_init__(self) -> None:
        if self.task not in DIGITS:
            raise TaskRefusedError(f"{self.name}: the family has no task of this name")
        if not _file(self.data).exists():
            raise DataMissingError(f"no MNIST at {_file(self.data)}; pass its folder with --data")

    @property
    def name(self) -> str:
        """Family and digits, as ``lenet/odd-digits``."""
        return f"lenet/{self.task}"

    @property
    def space(self) -> Space:
        """Hyperparameters of training; the architecture is fixed."""
        return SPACE

    @property
    def classes(self) -> int:
        """The number of digits."""
        return len(DIGITS[self.task])

    def train(self, configuration: Configuration) -> float:
        """Validation log-loss after the last epoch."""
        images = _images(self.task, self.data)
        torch.manual_seed(0)
        network = build_network(self.classes, configuration)
        optimizer = build_optimizer(network, configuration)
        for _ in range(EPOCHS):
            network.train()
            order = torch.randperm(len(images.train_inputs))
            for rows in order.split(configuration["batch_size"]):
                optimizer.zero_grad()
                logits = network(images.train_inputs[rows])
                nn.functional.cross_entropy(logits, images.train_classes[rows]).backward()
                optimizer.step()
        network.eval()
        with torch.no_grad():
            logits = network(images.valid_inputs)
            return float(nn.functional.cross_entropy(logits, images.valid_classes))


def build_network(classes: int, configuration: Configuration) -> nn.Sequential:
    """LeNet-5 for 28 x 28 images, with average pooling and a choice of activation."""
    activation = ACTIVATIONS[configuration["activation"]]
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), activation(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), activation(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), activation(), nn.Dropout(configuration["dropout"])),
        *(nn.Linear(120, 84), activation(), nn.Linear(84, classes)),
    )


# ---- images --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Images:
    """Images (n x 1 x 28 x 28, in [-1, 1]) and their classes 0, 1, ..."""

    train_inputs: Tensor
    train_classes: Tensor
    valid_inputs: Tensor
    valid_classes: Tensor


def _file(data: Path) -> Path:
    return data / "mnist" / "mnist.npz"


@cache
def _images(task: str, data: Path) -> Images:
    """Training and validation images, drawn from MNIST's training part with a fixed seed."""
    with np.load(_file(data)) as arrays:
        inputs, digits = arrays["x_train"], arrays["y_train"]
    # The file may be sorted by digit.
    rows = np.random.default_rng(0).permutation(np.flatnonzero(np.isin(digits, DIGITS[task])))
    train, valid = np.split(rows[: TRAINING_IMAGES + VALIDATION_IMAGES], [TRAINING_IMAGES])
    classes = np.searchsorted(np.array(DIGITS[task]), digits)
    return Images(
        *(_inputs(inputs[train]), torch.from_numpy(classes[train])),
        *(_inputs(inputs[valid]), torch.from_numpy(classes[valid])),
    )


def _inputs(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).float().div(127.5).sub(1.0)[:, None]
