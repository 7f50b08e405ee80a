"""Small networks with a batch of parameters: one forward pass evaluates many networks at once.

Each class defines the shapes of its parameters (PyTorch's conventions, without the batch) and maps
parameters, ``batch x shape`` each, and shared inputs to outputs ``batch x ...``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

ACTIVATIONS = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


@dataclass(frozen=True)
class Parameter:
    """Shape and initial distribution of a parameter.

    Attributes:
        shape: Without the batch.
        deviation: Standard deviation of the normal initial distribution.
        mean: Mean of that distribution.
        embedding: Whether it is a table whose rows are looked up or added.
    """

    shape: tuple[int, ...]
    deviation: float
    mean: float = 0.0
    embedding: bool = False


def _linear(inputs: int, outputs: int, gain: float = 1.0) -> list[Parameter]:
    deviation = gain * inputs**-0.5
    return [Parameter((outputs, inputs), deviation), Parameter((outputs,), 0.3 * deviation)]


def _apply(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply linear layers, ``batch x outputs x inputs``, to ``[batch x] rows x inputs``."""
    return inputs @ weight.mT + bias[:, None, :]


class Network(ABC):
    """A network architecture."""

    @property
    @abstractmethod
    def parameters(self) -> list[Parameter]:
        """The parameters, in the order in which ``forward`` takes them."""

    @abstractmethod
    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Compute outputs ``batch x rows x ...`` of shared inputs ``rows x ...``."""

    def initial(self, generator: torch.Generator) -> list[Tensor]:
        """Draw initial parameters, without the batch."""
        return [
            parameter.mean + parameter.deviation * torch.randn(parameter.shape,
                                                               generator=generator)
            for parameter in self.parameters
        ]  # fmt: skip


@dataclass(frozen=True)
class MLP(Network):
    """A multilayer perceptron, optionally with layer norms.

    Attributes:
        widths: Widths of all layers, including inputs and outputs.
        activation: A key of ``ACTIVATIONS``.
        norm: Whether hidden layers have layer norms.
        gain: Factor of the initial standard deviations.
    """

    widths: tuple[int, ...]
    activation: str = "relu"
    norm: bool = False
    gain: float = 1.0

    @property
    def parameters(self) -> list[Parameter]:
        """Weights and biases in the order of the forward pass."""
        layers: list[Parameter] = []
        last = len(self.widths) - 2
        for place, (inputs, outputs) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            layers += _linear(inputs, outputs, self.gain)
            if self.norm and place < last:
                layers += [Parameter((outputs,), 0.0, 1.0), Parameter((outputs,), 0.0)]
        return layers

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Compute the outputs of all networks of the batch."""
        remaining = list(parameters)
        hidden = inputs
        while remaining:
            hidden = _apply(hidden, remaining.pop(0), remaining.pop(0))
            if remaining and self.norm:
                hidden = _layer_norm(hidden, remaining.pop(0), remaining.pop(0))
            if remaining:
                hidden = ACTIVATIONS[self.activation](hidden)
        return hidden


@dataclass(frozen=True)
class Convolutional(Network):
    """3 x 3 convolutions of stride 2 on a grey image, average pooling, and a linear layer."""

    side: int
    channels: tuple[int, ...]
    classes: int
    activation: str = "relu"

    @property
    def parameters(self) -> list[Parameter]:
        """Weights and biases in the order of the forward pass."""
        layers: list[Parameter] = []
        for inputs, outputs in zip((1, *self.channels), self.channels, strict=False):
            deviation = (2 / (9 * inputs)) ** 0.5
            layers += [
                Parameter((outputs, inputs, 3, 3), deviation),
                Parameter((outputs,), 0.0),
            ]
        return layers + _linear(self.channels[-1], self.classes)

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Compute the outputs of all networks of the batch."""
        batch, rows = parameters[0].shape[0], len(inputs)
        # Groups keep the networks of the batch apart in one convolution.
        hidden = inputs.view(rows, 1, self.side, self.side).expand(-1, batch, -1, -1)
        remaining = list(parameters)
        while len(remaining) > 2:
            kernel, bias = remaining.pop(0), remaining.pop(0)
            hidden = functional.conv2d(
                hidden, kernel.flatten(0, 1), bias.flatten(), stride=2, padding=1, groups=batch
            )
            hidden = ACTIVATIONS[self.activation](hidden)
        pooled = hidden.mean((-2, -1)).view(rows, batch, -1).transpose(0, 1)
        return _apply(pooled, *remaining)


@dataclass(frozen=True)
class Transformer(Network):
    """A causal pre-norm transformer with a linear head."""

    tokens: int
    length: int
    width: int
    heads: int
    blocks: int

    @property
    def parameters(self) -> list[Parameter]:
        """Weights and biases in the order of the forward pass."""
        width = self.width
        norm = [Parameter((width,), 0.0, 1.0), Parameter((width,), 0.0)]
        block = [
            *norm,
            *_linear(width, 3 * width),
            *_linear(width, width),
            *norm,
            *_linear(width, 4 * width),
            *_linear(4 * width, width),
        ]
        embeddings = [
            Parameter((self.tokens, width), 0.5, embedding=True),
            Parameter((self.length, width), 0.1, embedding=True),
        ]
        return embeddings + block * self.blocks + norm + _linear(width, self.tokens, 0.5)

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Compute the outputs of all networks of the batch."""
        remaining = list(parameters)
        hidden = remaining.pop(0)[:, inputs] + remaining.pop(0)[:, None]
        for _ in range(self.blocks):
            hidden = hidden + self._attention(_pop_layer_norm(hidden, remaining), remaining)
            inner = functional.gelu(_tokenwise(_pop_layer_norm(hidden, remaining), remaining))
            hidden = hidden + _tokenwise(inner, remaining)
        return _tokenwise(_pop_layer_norm(hidden, remaining), remaining)

    def _attention(self, hidden: Tensor, remaining: list[Tensor]) -> Tensor:
        batch, rows, length, width = hidden.shape
        mixed = _tokenwise(hidden, remaining).view(batch * rows, length, 3, self.heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return _tokenwise(attended.transpose(1, 2).reshape(batch, rows, length, width), remaining)


@dataclass(frozen=True)
class WindowModel(Network):
    """The language model of Bengio et al. 2003: each token is predicted from a window before it.

    The window's embeddings are concatenated and go through a hidden layer.
    """

    tokens: int
    window: int
    width: int
    hidden: int

    @property
    def parameters(self) -> list[Parameter]:
        """Weights and biases in the order of the forward pass."""
        return [
            Parameter((self.tokens, self.width), 1.0, embedding=True),
            *_linear(self.window * self.width, self.hidden),
            *_linear(self.hidden, self.tokens),
        ]

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Compute the outputs of all networks of the batch."""
        embedding, *remaining = parameters
        # The first token pads the windows at the start.
        earlier = torch.cat([inputs[:, :1].expand(-1, self.window - 1), inputs], 1)
        windows = earlier.unfold(1, self.window, 1)
        hidden = torch.tanh(_tokenwise(embedding[:, windows].flatten(-2), remaining))
        return _tokenwise(hidden, remaining)


@dataclass(frozen=True)
class Recurrent(Network):
    """An Elman network over tokens, with a linear head at every position."""

    tokens: int
    width: int

    @property
    def parameters(self) -> list[Parameter]:
        """Weights and biases in the order of the forward pass."""
        return [
            Parameter((self.tokens, self.width), 0.5, embedding=True),
            *_linear(self.width, self.width),
            *_linear(self.width, self.tokens),
        ]

    def forward(self, parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Compute the outputs of all networks of the batch."""
        embedding, weight, bias, head, head_bias = parameters
        embedded = embedding[:, inputs]
        state = torch.zeros_like(embedded[:, :, 0])
        states = []
        for place in range(inputs.shape[1]):
            state = torch.tanh(_apply(state, weight, bias) + embedded[:, :, place])
            states.append(state)
        return _tokenwise(torch.stack(states, 2), [head, head_bias])


def _tokenwise(hidden: Tensor, remaining: list[Tensor]) -> Tensor:
    """Apply a linear layer at every position of ``batch x rows x length x width``."""
    outputs = _apply(hidden.flatten(1, 2), remaining.pop(0), remaining.pop(0))
    return outputs.view(*hidden.shape[:3], -1)


def _pop_layer_norm(hidden: Tensor, remaining: list[Tensor]) -> Tensor:
    return _layer_norm(hidden, remaining.pop(0), remaining.pop(0))


def _layer_norm(hidden: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    between = (1,) * (hidden.ndim - 2)
    shape = (gain.shape[0], *between, gain.shape[-1])
    normal = functional.layer_norm(hidden, hidden.shape[-1:])
    return normal * gain.view(shape) + bias.view(shape)
