"""Detect divergence of a training: pure functions from what each step measured.

The state is a tuple of plain numbers, so that an optimizer can keep it in a parameter group.
"""

from __future__ import annotations

import math
from typing import NamedTuple

# Consecutive bad steps before the hand-over.
PATIENCE = 5
# First steps, which define the usual norms and the usual loss.
REFERENCE_STEPS = 10
# A norm is bad if it exceeds the largest of the reference steps by this factor.
GRADIENT_GROWTH = 1e4
PARAMETER_GROWTH = 1e3
# The running mean of the loss (with this decay) is bad if it exceeds the initial loss by the sum
# of: the decrease reached so far, this many deviations, this fraction of the initial loss.
DECAY = 0.9
DECREASES, DEVIATIONS, FRACTION = 1.0, 6.0, 0.5


class GuardState(NamedTuple):
    """What the guard keeps between steps.

    Attributes:
        steps: Number of steps so far.
        losses: Number of steps that had a loss.
        bad: Consecutive bad steps up to now.
        gradient: Largest norm of the gradients in the reference steps.
        parameter: Largest norm of the parameters in the reference steps.
        first: Mean loss of the reference steps.
        deviation: Root mean square change of the loss in the reference steps.
        last: The last loss.
        mean: Running mean of the loss.
        best: Lowest running mean so far.
    """

    steps: int = 0
    losses: int = 0
    bad: int = 0
    gradient: float = 0.0
    parameter: float = 0.0
    first: float = 0.0
    deviation: float = 0.0
    last: float = 0.0
    mean: float = 0.0
    best: float = math.inf

    @property
    def diverged(self) -> bool:
        """Whether the last ``PATIENCE`` steps or more were bad."""
        return self.bad >= PATIENCE


def after_step(
    state: GuardState, gradient: float, parameter: float, loss: float | None
) -> GuardState:
    """Update the state with one more step.

    Args:
        state: The state before the step.
        gradient: Norm of all gradients.
        parameter: Norm of all parameters.
        loss: None if unknown.
    """
    bad = _are_norms_bad(state, gradient, parameter) or not math.isfinite(loss or 0.0)
    if not bad and loss is not None:
        state = _with_loss(state, loss)
        bad = _is_loss_bad(state)
    if not bad and state.steps < REFERENCE_STEPS:
        state = state._replace(
            gradient=max(state.gradient, gradient), parameter=max(state.parameter, parameter)
        )
    return state._replace(steps=state.steps + 1, bad=state.bad + 1 if bad else 0)


def _are_norms_bad(state: GuardState, gradient: float, parameter: float) -> bool:
    if not (math.isfinite(gradient) and math.isfinite(parameter)):
        return True
    if state.steps < REFERENCE_STEPS:
        return False
    # Gradients or parameters that start at zero give no reference.
    return (
        0 < state.gradient * GRADIENT_GROWTH < gradient
        or max(state.parameter, 1.0) * PARAMETER_GROWTH < parameter
    )


def _with_loss(state: GuardState, loss: float) -> GuardState:
    count = state.losses + 1
    change = loss - state.last if state.losses else 0.0
    mean = loss if not state.losses else DECAY * state.mean + (1 - DECAY) * loss
    if state.losses < REFERENCE_STEPS:
        share = 1 / count
        square = (1 - share) * state.deviation**2 + share * change**2
        state = state._replace(
            first=state.first + share * (loss - state.first), deviation=math.sqrt(square)
        )
    return state._replace(losses=count, last=loss, mean=mean, best=min(state.best, mean))


def _is_loss_bad(state: GuardState) -> bool:
    if state.losses <= REFERENCE_STEPS:
        # A training that diverges at once has only its first losses to be compared with.
        return state.mean > 10 * abs(state.first) + 10 and state.losses > 1
    margin = (
        DECREASES * max(state.first - state.best, 0.0)
        + DEVIATIONS * state.deviation
        + FRACTION * abs(state.first)
    )
    return state.mean > state.first + margin
