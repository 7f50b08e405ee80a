"""Meta-training of the learned optimizer, in steps that resume bit for bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from metahpo.optim.weights import initial_weights
from metahpo.train.optimizer import evolution
from metahpo.train.optimizer.inner import InnerTraining, validation_losses
from metahpo.train.optimizer.inner_data import Dataset
from metahpo.train.optimizer.inner_problems import augmented, validation_problems
from metahpo.train.optimizer.objective import final_score, initial_loss, objective
from metahpo.train.optimizer.optimizer_settings import Phase, Settings
from metahpo.train.optimizer.problem_families import training_problems

# Weights of the schedule to which ``Settings.smoothness`` applies.
DECAYED = ("schedule.last.weight", "schedule.last.bias")


@dataclass
class Particle:
    """An inner training in progress.

    Attributes:
        seed: Determines the training.
        training: Its networks.
        generator: Source of minibatches and noise.
        first_loss: ``batch``, losses before the first step.
        accumulated: Sums of the perturbations so far, ``pairs x shape`` each.
    """

    seed: int
    training: InnerTraining
    generator: torch.Generator
    first_loss: Tensor
    accumulated: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class MetaState:
    """Everything that a resumed meta-training needs.

    Attributes:
        weights: The optimizer's weights.
        adam: State of the meta-optimizer.
        particles: The inner trainings in progress.
        meta_step: Number of meta-steps taken.
        seconds: Time spent, in seconds.
        best: Best validation score so far.
    """

    weights: dict[str, Tensor]
    adam: evolution.Adam
    particles: list[Particle]
    meta_step: int = 0
    seconds: float = 0.0
    best: float = math.inf


class MetaTraining:
    """A meta-training whose state is complete after each meta-step.

    Args:
        settings: Settings of the training.
        extra: Data sets in addition to those of scikit-learn, as selected by the settings.
        device: Where the inner trainings run; the CPU by default.
    """

    def __init__(
        self,
        settings: Settings,
        extra: Sequence[Dataset] = (),
        device: torch.device | None = None,
    ) -> None:
        self.settings = settings
        self.device = device or torch.device("cpu")
        self.families = training_problems(extra, self.device)
        weights = {n: t.to(self.device) for n, t in initial_weights(settings.seed).items()}
        self.state = MetaState(weights, evolution.Adam.start(weights), [])
        self.state.particles = [
            self.start_particle(settings.seed * 1_000_003 + n) for n in range(settings.trainings)
        ]

    @property
    def phase(self) -> str:
        """Name of the current phase."""
        return self._current[0].name

    @property
    def rate(self) -> float:
        """The meta learning rate; it falls to zero over each phase, to average out noise."""
        phase, done = self._current
        return phase.rate * (1 - done / phase.steps)

    @property
    def _current(self) -> tuple[Phase, int]:
        """The phase of the next meta-step, and the number of its steps already taken."""
        done = self.state.meta_step
        for phase in self.settings.phases:
            if done < phase.steps:
                return phase, done
            done -= phase.steps
        raise RuntimeError("the meta-training has ended")

    def start_particle(self, seed: int) -> Particle:
        """Start a new inner training, determined by the seed."""
        random = np.random.default_rng(seed)
        family = self.families[random.integers(len(self.families))]
        problem = augmented(family(random), random)
        low, high = math.log(self.settings.shortest), math.log(self.settings.longest)
        num_steps = round(math.exp(random.uniform(low, high)))
        generator = torch.Generator().manual_seed(seed)
        training = InnerTraining.start(
            problem,
            num_steps,
            2 * self.settings.pairs,
            generator,
            use_losses=bool(random.random() < 0.5),
        )
        training.compiled = self.settings.compiled
        return Particle(seed, training, generator, initial_loss(problem, training, generator))

    def advance(self) -> float:
        """Take one meta-step.

        Returns:
            The mean objective.
        """
        settings, state = self.settings, self.state
        noise = torch.Generator().manual_seed(settings.seed * 7_919 + state.meta_step)
        phase, rate = self.phase, self.rate
        results = [self._unroll(particle, noise) for particle in state.particles]
        slopes = {
            name: torch.stack([slope[name] for _, slope in results]).mean(0)
            for name in results[0][1]
        }
        state.weights = state.adam.updated(state.weights, slopes, rate)
        if phase == "schedule":
            for name in DECAYED:
                state.weights[name] = (1 - settings.smoothness) * state.weights[name]
        state.meta_step += 1
        for place, particle in enumerate(state.particles):
            if particle.training.finished:
                state.particles[place] = self.start_particle(particle.seed + settings.trainings)
        return sum(mean for mean, _ in results) / len(results)

    def _unroll(
        self, particle: Particle, noise: torch.Generator
    ) -> tuple[float, dict[str, Tensor]]:
        """Advance an inner training; return its mean objective and the gradient estimate."""
        settings, training = self.settings, particle.training
        directions = evolution.perturbations(self.state.weights, self.phase, settings.pairs, noise)
        before = particle.accumulated
        # When the phase changes, the accumulated directions of the previous one are dropped.
        particle.accumulated = {
            name: before[name] + direction if name in before else direction
            for name, direction in directions.items()
        }
        members = evolution.perturbed(self.state.weights, directions, settings.deviation)
        start = training.step
        losses = training.advance(members, settings.truncation, particle.generator)
        held_out = None
        if settings.generalisation:
            held_out = validation_losses(training, particle.generator) / particle.first_loss
        progress = torch.arange(start, training.step, device=losses.device) / training.num_steps
        objectives = objective(settings, losses / particle.first_loss, progress, held_out)
        importance = 1 + settings.stability * bool(training.problem.gradient_noise)
        slopes = evolution.gradient(
            importance * evolution.standardised(objectives),
            particle.accumulated,
            settings.deviation,
        )
        return objectives.mean().item(), slopes

    def validate(self) -> float:
        """Return the mean of ``final_score`` over the validation problems."""
        settings = self.settings
        scores = [
            final_score(self.state.weights, problem, settings.validation_steps, settings.compiled)
            for problem in validation_problems()
        ]
        return sum(scores) / len(scores)
