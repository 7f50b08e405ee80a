"""Twelve tasks for optimizers, unlike those of the meta-training: a network, data, a loss each.

No data set of KEEL's and no kind of sequence is one that the meta-training learns on. MNIST is, at
8 x 8; here it is whole, for networks that the meta-training does not know.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from metahpo.train.optimizer.inner_data import Dataset, keel, mnist

CHARACTERS, LENGTH = 97, 32  # Printable ASCII and one for the rest.
SOURCES = ("argparse.py", "ast.py", "typing.py", "inspect.py", "tarfile.py", "datetime.py")


@dataclass(frozen=True)
class OptimizerTask:
    """A training problem for optimizers.

    Attributes:
        network: Makes one, with the present seed of PyTorch's.
        data: Reads the data; the folder given is that of the benchmark data.
        rows: Of a minibatch.
        reconstruct: Whether the inputs are the targets.
    """

    network: Callable[[], nn.Module]
    data: Callable[[Path], Dataset]
    rows: int = 64
    reconstruct: bool = False

    def loss(self, network: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, or the mean square error of a reconstruction."""
        outputs = network(inputs)
        if self.reconstruct:
            return functional.mse_loss(outputs, inputs)
        return functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


# ---- data ----------------------------------------------------------------------------------


@cache
def _images(folder: Path) -> Dataset:
    return mnist(folder, side=28)


@cache
def _text(_: Path) -> Dataset:
    """Windows on source text of the Python standard library."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    text = "".join((folder / name).read_text(errors="replace") for name in SOURCES)
    codes = torch.tensor([min(max(ord(c) - 31, 0), CHARACTERS - 1) for c in text])
    windows = codes[: len(codes) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)
    return Dataset("stdlib", windows[:, :-1], windows[:, 1:].contiguous(), CHARACTERS)


@cache
def _keel(name: str) -> Dataset:
    return keel([name])[0]


# ---- networks ------------------------------------------------------------------------------


def mlp(*widths: int, activation: Callable[[], nn.Module] = nn.GELU) -> nn.Sequential:
    """Linear layers of these widths, inputs and outputs included."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def _cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.inner(inputs)


def _resnet() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 16, 3, stride=2, padding=1), _Residual(16),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), _Residual(32),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


class Transformer(nn.Module):
    """Blocks with layer norms before; causal over characters, or over an image's patches."""

    def __init__(self, embedding: nn.Module, length: int, width: int, blocks: int, outputs: int,
                 causal: bool) -> None:  # fmt: skip
        super().__init__()
        self.embedding, self.causal = embedding, causal
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, "gelu", batch_first=True,
                                           norm_first=True)  # fmt: skip
        self.blocks = nn.TransformerEncoder(layer, blocks, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits at every place, or of the whole image."""
        hidden = self.embedding(inputs) + self.positions
        mask = None
        if self.causal:
            mask = nn.Transformer.generate_square_subsequent_mask(hidden.shape[1])
        hidden = self.norm(self.blocks(hidden, mask=mask, is_causal=self.causal))
        return self.head(hidden if self.causal else hidden.mean(1))


def _vit() -> Transformer:
    patches = nn.Sequential(nn.Unflatten(1, (1, 28, 28)), nn.Unfold(7, stride=7))
    embedding = nn.Sequential(patches, _Swap(), nn.Linear(49, 48))
    return Transformer(embedding, 16, 48, 2, 10, causal=False)


class _Swap(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mT


class _LSTM(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, CHARACTERS)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(inputs))[0])


def _characters(width: int, blocks: int) -> Transformer:
    embedding = nn.Embedding(CHARACTERS, width)
    return Transformer(embedding, LENGTH, width, blocks, CHARACTERS, causal=True)


TASKS = {
    "mnist-cnn": OptimizerTask(_cnn, _images),
    "mnist-resnet": OptimizerTask(_resnet, _images, rows=32),
    "mnist-vit": OptimizerTask(_vit, _images, rows=32),
    "mnist-mlp": OptimizerTask(lambda: mlp(784, 256, 256, 10), _images, rows=128),
    "mnist-autoencoder": OptimizerTask(
        lambda: mlp(784, 128, 32, 128, 784), _images, reconstruct=True
    ),
    "letter-mlp": OptimizerTask(lambda: mlp(16, 128, 128, 26), lambda _: _keel("letter")),
    "penbased-deep": OptimizerTask(
        lambda: mlp(16, *[48] * 6, 10, activation=nn.Tanh), lambda _: _keel("penbased"), rows=32
    ),
    "magic-mlp": OptimizerTask(
        lambda: mlp(10, 64, 64, 2, activation=nn.SiLU), lambda _: _keel("magic")
    ),
    "texture-wide": OptimizerTask(lambda: mlp(40, 512, 11), lambda _: _keel("texture")),
    "text-transformer": OptimizerTask(lambda: _characters(64, 2), _text, rows=16),
    "text-deep": OptimizerTask(lambda: _characters(32, 4), _text, rows=16),
    "text-lstm": OptimizerTask(lambda: _LSTM(96), _text, rows=16),
}
