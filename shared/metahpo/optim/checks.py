"""What LearnedOptimizer does not take, said clearly."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

from torch import Tensor


def check_parameters(parameters: list[Tensor]) -> None:
    """Raises RuntimeError where a gradient is sparse, or a parameter sharded."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            raise RuntimeError(
                "LearnedOptimizer does not support sparse gradients; use "
                "Embedding(sparse=False), or another optimizer for these parameters"
            )
        if hasattr(parameter, "device_mesh"):
            raise RuntimeError(
                "LearnedOptimizer does not support sharded parameters (DTensor, fully_shard)"
            )


def check_group(group: dict[str, Any]) -> None:
    """Raises TypeError or ValueError where an option is wrong; makes ``num_steps`` an int."""
    num_steps = group["num_steps"]
    if isinstance(num_steps, bool) or not isinstance(num_steps, Integral):
        raise TypeError(f"num_steps must be a whole number, not {num_steps!r}")
    # NumPy's integers would keep a saved state from being read with weights_only.
    group["num_steps"] = int(num_steps)
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, not {num_steps}")
    if not (math.isfinite(group["weight_decay"]) and group["weight_decay"] >= 0):
        raise ValueError(f"weight_decay must be 0 or more, not {group['weight_decay']}")
    if not (math.isfinite(group["lr"]) and group["lr"] >= 0):
        raise ValueError(f"lr, which scales the step, must be 0 or more, not {group['lr']}")
