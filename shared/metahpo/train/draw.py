"""Random tensors from one generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """Random tensors from one generator.

    Attributes:
        generator: The source of randomness.
    """

    generator: torch.Generator

    def uniform(self, low: float, high: float, *size: int) -> Tensor:
        """Uniform samples in [low, high)."""
        return low + (high - low) * torch.rand(size, generator=self.generator)

    def normal(self, *size: int) -> Tensor:
        """Standard normal samples."""
        return torch.randn(size, generator=self.generator)

    def bernoulli(self, probability: float | Tensor, *size: int) -> Tensor:
        """Booleans that are True with the given probability."""
        return torch.rand(size, generator=self.generator) < probability

    def integers(self, low: int, high: int, *size: int) -> Tensor:
        """Uniform integers from ``low`` to ``high - 1``."""
        return torch.randint(low, high, size, generator=self.generator)

    def signs(self, *size: int) -> Tensor:
        """1 or -1, equally likely."""
        return 2.0 * self.integers(0, 2, *size) - 1.0
