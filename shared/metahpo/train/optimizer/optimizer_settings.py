"""Settings of the optimizer's meta-training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Phase(NamedTuple):
    """A part of the meta-training.

    Attributes:
        name: A key of ``evolution.PHASES``, which determines the weights that are learned.
        steps: Number of meta-steps.
        rate: Meta learning rate at the start of the phase.
    """

    name: str
    steps: int
    rate: float


@dataclass(frozen=True)
class Settings:
    """Settings of a meta-training; kept in its checkpoint.

    Attributes:
        seed: Seed of all random numbers.
        mixture_steps: Meta-steps of the first phase (see ``evolution.PHASES``).
        rule_steps: Meta-steps of the second phase.
        schedule_steps: Meta-steps of the third phase.
        trainings: Number of inner trainings in progress at once.
        pairs: Antithetic pairs in each.
        truncation: Inner steps between two meta-steps.
        shortest: Smallest number of inner steps of a training.
        longest: Largest number of inner steps; drawn log-uniformly between both.
        deviation: Standard deviation of the perturbations, in standardised coordinates.
        mixture_rate: Meta learning rate at the start of the first phase, in standardised
            coordinates.
        rule_rate: The same for the second phase. Adam steps have the same length in every
            direction, with a gradient or with noise alone: five times this rate made rules worse
            than the initial one.
        schedule_rate: The same for the third phase, with fewer weights and clearer gradients.
        smoothness: Weight decay of the schedule's network per meta-step.
        final: Extra weight of the end of a training, relative to the rest of it.
        target: Weight of the time to reach ``objective.TARGET`` times the initial loss, as the
            share of steps above it.
        stability: Extra weight of a training with gradient noise, relative to one without.
        generalisation: Weight of the loss on held-out rows.
        validate_every: Meta-steps between two validations.
        validation_steps: Inner steps of a validation.
        mnist: Whether to train on MNIST.
        keel: Whether to train on KEEL's data sets.
        compiled: Whether to compile the inner updates.
    """

    seed: int = 0
    mixture_steps: int = 900
    rule_steps: int = 0
    schedule_steps: int = 400
    trainings: int = 3
    pairs: int = 4
    truncation: int = 25
    shortest: int = 50
    longest: int = 1000
    deviation: float = 0.05
    mixture_rate: float = 0.003
    rule_rate: float = 0.001
    schedule_rate: float = 0.004
    smoothness: float = 1e-3
    final: float = 10.0
    target: float = 0.0
    stability: float = 0.5
    generalisation: float = 0.1
    validate_every: int = 50
    validation_steps: int = 200
    mnist: bool = False
    keel: bool = False
    compiled: bool = False

    @property
    def meta_steps(self) -> int:
        """Total number of meta-steps."""
        return sum(phase.steps for phase in self.phases)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases in order."""
        return (
            Phase("mixture", self.mixture_steps, self.mixture_rate),
            Phase("rule", self.rule_steps, self.rule_rate),
            Phase("schedule", self.schedule_steps, self.schedule_rate),
        )
