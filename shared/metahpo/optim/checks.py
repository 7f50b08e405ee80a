"""Checks of what users pass to LearnedOptimizer."""

from __future__ import annotations

import math
import sys
from numbers import Integral
from typing import Any

from torch import Tensor


class Defaults(dict[str, Any]):
    """An optimizer's defaults, which tell schedulers that cycle the momentum what to do.

    ``OneCycleLR`` and ``CyclicLR`` look for a momentum here, and their own error does not say how
    to go on. Others who look, such as Lightning's monitors, find none and no error.
    """

    def __contains__(self, key: object) -> bool:
        asked_by = sys._getframe(1).f_globals.get("__name__")
        if key == "betas" and asked_by == "torch.optim.lr_scheduler":
            raise ValueError(
                "LearnedOptimizer has no momentum to cycle: pass cycle_momentum=False to "
                "OneCycleLR or CyclicLR"
            )
        return super().__contains__(key)


def check_parameters(parameters: list[Tensor]) -> None:
    """Raise RuntimeError if a gradient is sparse or a parameter is sharded."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            raise RuntimeError(
                "LearnedOptimizer does not support sparse gradients; use "
                "Embedding(sparse=False), or another optimizer for these parameters"
            )
        if hasattr(parameter, "device_mesh"):
            raise RuntimeError(
                "LearnedOptimizer does not support sharded parameters (DTensor, fully_shard); use "
                "another optimizer for them, or train with DistributedDataParallel"
            )


def check_group(group: dict[str, Any]) -> None:
    """Validate the options of a parameter group, and convert ``num_steps`` to int.

    Raises:
        TypeError: ``num_steps`` is not an integer.
        ValueError: An option is out of range.
    """
    num_steps = group["num_steps"]
    if isinstance(num_steps, bool) or not isinstance(num_steps, Integral):
        raise TypeError(f"num_steps must be an int, got {num_steps!r}")
    # A NumPy integer would prevent loading a saved state with weights_only=True.
    group["num_steps"] = int(num_steps)
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    for option in ("embedding", "guard", "foreach"):
        value = group[option]
        if not isinstance(value, bool) and not (option == "foreach" and value is None):
            raise ValueError(f"{option} must be True or False, got {value!r}")
    for option in ("weight_decay", "lr"):
        if not (math.isfinite(group[option]) and group[option] >= 0):
            hint = " (lr scales the step; the default is 1)" if option == "lr" else ""
            raise ValueError(
                f"{option} must be finite and not negative{hint}, got {group[option]}"
            )
