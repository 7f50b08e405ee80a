"""What a parameter group keeps between steps besides its options: loss statistics and guard.

A group is a dictionary of ``torch.optim.Optimizer.param_groups``; all values are plain numbers or
tuples of them, so that a saved state loads with ``weights_only=True``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metahpo.optim.guard import GuardState, Measurements, after_step
from metahpo.optim.schedule import LARGEST_LOSS, LossStatistics, shape, step_sizes
from metahpo.optim.tensors import cosine, global_norm

# Options with a default, and the state of a new group.
INITIAL: Mapping[str, Any] = {
    "lr": 1.0,
    "embedding": False,
    "step": 0,
    "losses": (0.0, 0.0, 0.0, 0.0),
    "guard_state": tuple(GuardState()),
    "handover": None,
}
# After the hand-over: AdamW's default learning rate, and the number of steps that it takes.
ADAMW_STEP = 1e-3
HANDOVER_STEPS = 50


def update_guard(
    group: dict[str, Any],
    parameters: list[Tensor],
    momenta: list[Tensor | None],
    loss: float | None,
) -> tuple[bool, bool]:
    """Update the guard of a group.

    Args:
        group: A parameter group.
        parameters: Those with a gradient.
        momenta: Their momenta before this step; None before their first step.
        loss: Loss at this step; None if unknown.

    Returns:
        Whether the step may be taken, and whether training diverged.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    measured = Measurements(
        global_norm(gradients), global_norm(parameters), cosine(gradients, momenta), loss
    )
    state, may_step = after_step(GuardState(*group["guard_state"]), measured)
    group["guard_state"] = tuple(state)
    return may_step, state.diverged


def group_step_sizes(
    group: dict[str, Any], weights: Mapping[str, Tensor], loss: float | None
) -> tuple[list[float], float]:
    """Update the loss statistics of a group, and compute its step sizes.

    Args:
        group: A parameter group.
        weights: On the CPU, single precision, with a leading batch dimension.
        loss: Loss at this step; None if unknown.

    Returns:
        The relative step size for each kind of tensor, and AdamW's step size; after a hand-over
        the first fade out while the second fades in.
    """
    losses = LossStatistics(*(cpu_number(value)[None] for value in group["losses"]))
    if loss is not None and math.isfinite(loss):
        losses = losses.with_loss(cpu_number(loss)[None])
        group["losses"] = tuple(part.item() for part in losses)
    step, num_steps = cpu_number(group["step"])[None], cpu_number(group["num_steps"])[None]
    sizes = step_sizes(weights, step, num_steps, losses.features())[0].tolist()
    lr = float(group["lr"])
    if group["handover"] is None:
        return [lr * size for size in sizes], 0.0
    share = min(1.0, (group["step"] - group["handover"] + 1) / HANDOVER_STEPS)
    decay = shape(weights, (step / num_steps).clamp(max=1)).item()
    return [lr * (1 - share) * size for size in sizes], lr * share * ADAMW_STEP * decay


def clipped(loss: float) -> float:
    """Clip a finite loss to a range in which its square does not overflow."""
    return max(-LARGEST_LOSS, min(LARGEST_LOSS, loss)) if math.isfinite(loss) else loss


def cpu_number(value: float) -> Tensor:
    """A scalar in single precision on the CPU, as the weights are, whatever torch's defaults."""
    return torch.tensor(float(value), dtype=torch.float32, device="cpu")
