"""When training diverges: pure functions from what a step saw to whether to hand over.

The state is a plain tuple of numbers, so that an optimizer can keep it in a parameter group.
"""

from __future__ import annotations

import math
from typing import NamedTuple

# Steps in a row that must look wrong, and the steps at the start that tell what is usual.
PATIENCE = 5
USUAL = 10
# Gradients or parameters this many times their usual norm are wrong.
GRADIENT_GROWTH = 1e4
PARAMETER_GROWTH = 1e3
# The loss is wrong this far above where it began: in what had been gained, in its deviations, and
# in proportion.
GAINS, DEVIATIONS, PROPORTION = 1.0, 6.0, 0.5
DECAY = 0.9


class Watch(NamedTuple):
    """What the guard remembers.

    Attributes:
        steps: Seen so far.
        losses: Of these, with a loss.
        wrong: Steps in a row that looked wrong.
        gradient: Largest norm of the gradients among the first steps.
        parameter: Largest norm of the parameters among them.
        first: Mean loss among them.
        deviation: Root mean square of the loss's changes among them.
        last: The last loss.
        now: Running mean of the loss.
        best: The least it was.
    """

    steps: int = 0
    losses: int = 0
    wrong: int = 0
    gradient: float = 0.0
    parameter: float = 0.0
    first: float = 0.0
    deviation: float = 0.0
    last: float = 0.0
    now: float = 0.0
    best: float = math.inf

    @property
    def diverged(self) -> bool:
        """Whether it is time to hand over."""
        return self.wrong >= PATIENCE


def watched(watch: Watch, gradient: float, parameter: float, loss: float | None) -> Watch:
    """The watch after one more step.

    Args:
        watch: Before it.
        gradient: Norm of all gradients.
        parameter: Norm of all parameters.
        loss: None where it is not known.
    """
    wrong = _norms_wrong(watch, gradient, parameter) or not math.isfinite(loss or 0.0)
    if not wrong and loss is not None:
        watch = _with_loss(watch, loss)
        wrong = _loss_wrong(watch)
    if not wrong and watch.steps < USUAL:
        watch = watch._replace(
            gradient=max(watch.gradient, gradient), parameter=max(watch.parameter, parameter)
        )
    return watch._replace(steps=watch.steps + 1, wrong=watch.wrong + 1 if wrong else 0)


def _norms_wrong(watch: Watch, gradient: float, parameter: float) -> bool:
    if not (math.isfinite(gradient) and math.isfinite(parameter)):
        return True
    if watch.steps < USUAL:
        return False
    # All may start at zero: then nothing is known of what is usual.
    return (
        0 < watch.gradient * GRADIENT_GROWTH < gradient
        or max(watch.parameter, 1.0) * PARAMETER_GROWTH < parameter
    )


def _with_loss(watch: Watch, loss: float) -> Watch:
    seen = watch.losses + 1
    change = loss - watch.last if watch.losses else 0.0
    now = loss if not watch.losses else DECAY * watch.now + (1 - DECAY) * loss
    if watch.losses < USUAL:
        share = 1 / seen
        square = (1 - share) * watch.deviation**2 + share * change**2
        watch = watch._replace(
            first=watch.first + share * (loss - watch.first), deviation=math.sqrt(square)
        )
    best = min(watch.best, now)
    return watch._replace(losses=seen, last=loss, now=now, best=best)


def _loss_wrong(watch: Watch) -> bool:
    if watch.losses <= USUAL:
        # Whoever diverges at once has no usual loss to compare with but the first.
        return watch.now > 10 * abs(watch.first) + 10 and watch.losses > 1
    margin = (
        GAINS * max(watch.first - watch.best, 0.0)
        + DEVIATIONS * watch.deviation
        + PROPORTION * abs(watch.first)
    )
    return watch.now > watch.first + margin
