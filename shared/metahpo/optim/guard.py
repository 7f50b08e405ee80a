"""Detect divergence of a training: pure functions from what each step measured.

A loss that rises is no proof: targets grow, curricula get harder, terms are added to the loss, its
scale changes. A training blows up where its own steps are to blame. They are if the parameters
grow faster than in any useful training, and the gradients no longer point where the last steps
went: along a target that moves away they do, beyond a valley that was overshot they do not.

The state is a tuple of plain numbers, so that an optimizer can keep it in a parameter group.
"""

from __future__ import annotations

import math
from typing import NamedTuple

# Consecutive bad steps before the hand-over, and outliers before they count as the new scale.
PATIENCE = 5
# First steps, which define the usual norms and the usual loss.
REFERENCE_STEPS = 10
# A gradient is an outlier if its norm exceeds the largest of the reference steps by this factor.
GRADIENT_GROWTH = 1e4
# Parameters are bad in any case if their norm exceeds that of the reference steps by this factor.
PARAMETER_GROWTH = 1e3
# A loss is bad in any case if it exceeds all that was usual by this factor: sums in place of
# means, and other units, change it by less.
LOSS_GROWTH = 1e8
# The running mean of the loss (with this decay) is high if it exceeds the initial loss by the sum
# of: the decrease reached so far, this many deviations, this fraction of the initial loss.
DECAY = 0.9
DECREASES, DEVIATIONS, FRACTION = 1.0, 6.0, 0.5
# Steps are to blame if the norm of the parameters exceeds its running mean (with this decay) by
# this factor, while the mean cosine between gradients and momentum is below this number. In tests
# of healthy trainings of 40 to 1,000 steps with rising losses the factor stayed below 1.7; in
# those that blew up it was 1.8 to 11, and the cosine below 0.2.
SLOW_DECAY, OUTGROWN, ALIGNED = 0.95, 1.75, 0.2


class Measurements(NamedTuple):
    """What was measured of one step.

    Attributes:
        gradient: Norm of all gradients.
        parameter: Norm of all parameters, before the step.
        alignment: Cosine between the gradients and the momentum of the steps before; None before
            there is a momentum.
        loss: None if unknown.
    """

    gradient: float
    parameter: float
    alignment: float | None = None
    loss: float | None = None


class GuardState(NamedTuple):
    """What the guard keeps between steps.

    Attributes:
        steps: Number of steps so far.
        losses: Number of losses that were counted.
        bad: Consecutive bad steps up to now.
        outliers: Consecutive outliers among the gradients up to now.
        gradient: Largest norm of the gradients in the reference steps, or the new scale of them.
        parameter: Largest norm of the parameters in the reference steps.
        slow_parameter: Running mean of the norm of the parameters.
        alignment: Running mean of the cosine between gradients and momentum.
        first: Mean loss of the reference steps.
        deviation: Root mean square change of the loss in the reference steps.
        last: The last loss.
        mean: Running mean of the loss.
        best: Lowest running mean so far.
    """

    steps: int = 0
    losses: int = 0
    bad: int = 0
    outliers: int = 0
    gradient: float = 0.0
    parameter: float = 0.0
    slow_parameter: float = 0.0
    alignment: float = 0.0
    first: float = 0.0
    deviation: float = 0.0
    last: float = 0.0
    mean: float = 0.0
    best: float = math.inf

    @property
    def diverged(self) -> bool:
        """Whether the last ``PATIENCE`` steps or more were bad."""
        return self.bad >= PATIENCE


def after_step(state: GuardState, step: Measurements) -> tuple[GuardState, bool]:
    """Update the state with one more step, and judge it.

    Args:
        state: The state before the step.
        step: What was measured.

    Returns:
        The state, and whether the step may be taken: not if its gradient is not finite or an
        outlier, which would spoil the momentum.
    """
    known = (step.gradient, step.parameter, step.loss or 0.0)
    if not all(map(math.isfinite, known)):
        return _counted(state, bad=True), math.isfinite(step.gradient)
    if _is_outlier(state, step.gradient):
        blamed = _are_steps_to_blame(state, step.parameter)
        return _with_outlier(_counted(state, bad=blamed), step.gradient), False
    state = _with_norms(state._replace(outliers=0), step)
    blamed = _are_steps_to_blame(state, step.parameter)
    bad = max(state.parameter, 1.0) * PARAMETER_GROWTH < step.parameter
    if step.loss is not None:
        absurd = _is_absurd(state, step.loss)
        if not absurd:
            state = _with_loss(state, step.loss, reference=not blamed)
        bad |= absurd or (blamed and _is_loss_high(state))
    return _counted(_with_slow_parameter(state, step.parameter), bad=bad), True


def _counted(state: GuardState, *, bad: bool) -> GuardState:
    return state._replace(steps=state.steps + 1, bad=state.bad + 1 if bad else 0)


# ---- gradients and parameters --------------------------------------------------------------


def _is_outlier(state: GuardState, gradient: float) -> bool:
    # Gradients that start at zero give no reference.
    return state.steps >= REFERENCE_STEPS and 0 < state.gradient * GRADIENT_GROWTH < gradient


def _with_outlier(state: GuardState, gradient: float) -> GuardState:
    """Count an outlier; as many as ``PATIENCE`` in a row are the new scale."""
    outliers = state.outliers + 1
    if outliers < PATIENCE:
        return state._replace(outliers=outliers)
    return state._replace(outliers=0, gradient=gradient)


def _with_norms(state: GuardState, step: Measurements) -> GuardState:
    if step.alignment is not None:
        alignment = DECAY * state.alignment + (1 - DECAY) * step.alignment
        state = state._replace(alignment=alignment)
    if state.steps >= REFERENCE_STEPS or _are_steps_to_blame(state, step.parameter):
        return state
    return state._replace(
        gradient=max(state.gradient, step.gradient),
        parameter=max(state.parameter, step.parameter),
    )


def _with_slow_parameter(state: GuardState, parameter: float) -> GuardState:
    mean = SLOW_DECAY * state.slow_parameter + (1 - SLOW_DECAY) * parameter
    return state._replace(slow_parameter=mean if state.steps else parameter)


def _are_steps_to_blame(state: GuardState, parameter: float) -> bool:
    outgrown = state.steps > 0 and parameter > OUTGROWN * state.slow_parameter
    return outgrown and state.alignment < ALIGNED


# ---- losses --------------------------------------------------------------------------------


def _is_absurd(state: GuardState, loss: float) -> bool:
    usual = max(abs(state.mean), abs(state.first), 1.0)
    return state.losses > 0 and loss > LOSS_GROWTH * usual


def _with_loss(state: GuardState, loss: float, *, reference: bool) -> GuardState:
    count = state.losses + 1
    change = loss - state.last if state.losses else 0.0
    mean = loss if not state.losses else DECAY * state.mean + (1 - DECAY) * loss
    if state.losses < REFERENCE_STEPS and reference:
        share = 1 / count
        square = (1 - share) * state.deviation**2 + share * change**2
        state = state._replace(
            first=state.first + share * (loss - state.first), deviation=math.sqrt(square)
        )
    return state._replace(losses=count, last=loss, mean=mean, best=min(state.best, mean))


def _is_loss_high(state: GuardState) -> bool:
    margin = (
        DECREASES * max(state.first - state.best, 0.0)
        + DEVIATIONS * state.deviation
        + FRACTION * abs(state.first)
    )
    return state.losses > 1 and state.mean > state.first + margin
