"""Random tensors from one generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """Random tensors from one generator.

    Attributes:
        generator: Where they come from.
    """

    generator: torch.Generator

    def uniform(self, low: float, high: float, *size: int) -> Tensor:
        """In [low, high)."""
        return low + (high - low) * torch.rand(size, generator=self.generator)

    def normal(self, *size: int) -> Tensor:
        """Standard normal."""
        return torch.randn(size, generator=self.generator)

    def chance(self, probability: float | Tensor, *size: int) -> Tensor:
        """True so often."""
        return torch.rand(size, generator=self.generator) < probability

    def whole(self, low: int, high: int, *size: int) -> Tensor:
        """Whole numbers from low to high - 1."""
        return torch.randint(low, high, size, generator=self.generator)

    def signs(self, *size: int) -> Tensor:
        """1 or -1."""
        return 2.0 * self.whole(0, 2, *size) - 1.0
