"""Meta-training of the learned optimizer: from settings to weights, in steps that can resume."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from metahpo.optim.weights import initial_weights, save_weights
from metahpo.train import TrainingError
from metahpo.train.files import read_log, usable_device, write_log
from metahpo.train.optimizer import checkpoint, evolution
from metahpo.train.optimizer.inner import Training, stacked, validation_losses
from metahpo.train.optimizer.inner_data import DataError, Dataset, keel, mnist
from metahpo.train.optimizer.inner_problems import (
    Problem,
    augmented,
    training_problems,
    validation_problems,
)

CHECKPOINT, LOG = "checkpoint.safetensors", "log.csv"
BEST, LAST = "best.safetensors", "last.safetensors"
# In the order of the rule's kinds.
KIND_NAMES = ("matrix", "vector", "embedding")
COLUMNS: tuple[str, ...] = (
    "meta_step",
    "seconds",
    "phase",
    "objective",
    *(f"{kind}_size" for kind in KIND_NAMES),
    "validation",
)
# Objectives are logarithms of the loss relative to its start, plus this; and at most this far up.
RELATIVE_LOSS_FLOOR, WORST = 0.01, 3.0
# The share of a training that counts as its end.
ENDING = 0.2
# Trainings of each validation problem.
STARTS = 3
# Of the first loss: the loss to which the time is taken.
TARGET = 0.3


class Phase(NamedTuple):
    """Some of the meta-steps: which weights they learn, how many, and the first one's rate."""

    name: str
    steps: int
    rate: float


@dataclass(frozen=True)
class Settings:
    """What a meta-training is; kept with its checkpoint.

    Attributes:
        seed: Of everything.
        mixture_steps: Meta-steps for the first phase (see ``evolution.PHASES``).
        rule_steps: For the second.
        schedule_steps: For the third.
        trainings: Inner trainings in progress at once.
        pairs: Antithetic pairs in each.
        truncation: Inner steps between two meta-steps.
        shortest: Least inner steps of a training.
        longest: Most of them; drawn log-uniformly.
        deviation: Of the perturbations, in standardised coordinates.
        mixture_rate: Meta learning rate, in them, at the start of the first phase.
        rule_rate: Likewise, of the second. Each step is as long in every direction, whether there
            is a gradient or noise alone: five times this rate made rules worse than the one they
            started from.
        schedule_rate: Likewise, of the third, with fewer weights and clearer gradients.
        smoothness: Share of the schedule's network taken off at each meta-step.
        final: How much more the end of a training counts than its course.
        target: Weight of the time to a loss of ``TARGET`` times the first: the share of the steps
            that lie above it.
        stability: How much more a training with noise on its gradients counts than one without.
        generalisation: Weight of the loss on held-out rows; next to that on training rows, it
            weighs the gap between them.
        validate_every: Meta-steps between two validations.
        validation_steps: Inner steps of each.
        mnist: Whether MNIST is among the data.
        keel: Whether KEEL's data sets are.
        compiled: Whether the inner updates are compiled.
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
        """In all."""
        return sum(phase.steps for phase in self.phases)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """One after another."""
        return (
            Phase("mixture", self.mixture_steps, self.mixture_rate),
            Phase("rule", self.rule_steps, self.rule_rate),
            Phase("schedule", self.schedule_steps, self.schedule_rate),
        )


@dataclass
class Particle:
    """One training in progress, its seed, and the sum of its perturbations."""

    seed: int
    training: Training
    generator: torch.Generator
    first_loss: Tensor
    accumulated: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class MetaState:
    """All that a resumed meta-training needs."""

    weights: dict[str, Tensor]
    adam: evolution.Adam
    particles: list[Particle]
    meta_step: int = 0
    seconds: float = 0.0
    best: float = math.inf


class MetaTraining:
    """Meta-trains; the state is whole after each meta-step.

    Args:
        settings: What to do.
        extra: Data sets beside scikit-learn's, as settings name them.
        device: Where the inner trainings run.
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
        """What is learned now."""
        return self._now[0].name

    @property
    def rate(self) -> float:
        """The meta learning rate: it falls to zero over each phase, for the noise to average."""
        phase, done = self._now
        return phase.rate * (1 - done / phase.steps)

    @property
    def _now(self) -> tuple[Phase, int]:
        """The phase of the next meta-step, and how many of its steps are done."""
        done = self.state.meta_step
        for phase in self.settings.phases:
            if done < phase.steps:
                return phase, done
            done -= phase.steps
        raise RuntimeError("the meta-training has ended")

    def start_particle(self, seed: int) -> Particle:
        """A new training; all of it follows from the seed."""
        random = np.random.default_rng(seed)
        family = self.families[random.integers(len(self.families))]
        problem = augmented(family(random), random)
        low, high = math.log(self.settings.shortest), math.log(self.settings.longest)
        num_steps = round(math.exp(random.uniform(low, high)))
        generator = torch.Generator().manual_seed(seed)
        training = Training.start(
            problem, num_steps, 2 * self.settings.pairs, generator, bool(random.random() < 0.5)
        )
        training.compiled = self.settings.compiled
        return Particle(seed, training, generator, _first_loss(problem, training, generator))

    def advance(self) -> float:
        """Takes one meta-step.

        Returns:
            The mean objective.
        """
        settings, state = self.settings, self.state
        noise = torch.Generator().manual_seed(settings.seed * 7_919 + state.meta_step)
        phase, rate = self.phase, self.rate
        results = [self._unrolled(particle, noise) for particle in state.particles]
        slopes = {
            name: torch.stack([slope[name] for _, slope in results]).mean(0)
            for name in results[0][1]
        }
        state.weights = state.adam.updated(state.weights, slopes, rate)
        if phase == "schedule":
            for name in ("schedule.last.weight", "schedule.last.bias"):
                state.weights[name] = (1 - settings.smoothness) * state.weights[name]
        state.meta_step += 1
        for place, particle in enumerate(state.particles):
            if particle.training.finished:
                state.particles[place] = self.start_particle(particle.seed + settings.trainings)
        return sum(objective for objective, _ in results) / len(results)

    def _unrolled(
        self, particle: Particle, noise: torch.Generator
    ) -> tuple[float, dict[str, Tensor]]:
        settings, training = self.settings, particle.training
        directions = evolution.perturbations(self.state.weights, self.phase, settings.pairs, noise)
        before = particle.accumulated
        # A training that outlasts the change of phase forgets the other phase's directions.
        particle.accumulated = {
            name: before[name] + way if name in before else way for name, way in directions.items()
        }
        members = evolution.perturbed(self.state.weights, directions, settings.deviation)
        begin = training.step
        losses = training.advance(members, settings.truncation, particle.generator)
        held_out = None
        if settings.generalisation:
            held_out = validation_losses(training, particle.generator) / particle.first_loss
        progress = torch.arange(begin, training.step, device=losses.device) / training.num_steps
        objectives = objective(settings, losses / particle.first_loss, progress, held_out)
        importance = 1 + settings.stability * bool(training.problem.gradient_noise)
        slopes = evolution.gradient(
            importance * evolution.standardised(objectives),
            particle.accumulated,
            settings.deviation,
        )
        return objectives.mean().item(), slopes

    def validate(self) -> float:
        """The mean of ``final_score`` over the validation problems."""
        settings = self.settings
        scores = [
            final_score(self.state.weights, problem, settings.validation_steps, settings.compiled)
            for problem in validation_problems()
        ]
        return sum(scores) / len(scores)


def objective(
    settings: Settings, losses: Tensor, progress: Tensor, held_out: Tensor | None
) -> Tensor:
    """What is minimised, of one stretch of a training: ``batch``.

    Args:
        settings: Whose weights are taken.
        losses: Over the first loss: ``steps x batch``.
        progress: Of the training at each step, in [0, 1]: ``steps``.
        held_out: The loss on held-out rows over the first loss: ``batch``; None for no matter.
    """
    importance = 1 + settings.final * (progress > 1 - ENDING)
    total = (importance[:, None] * _logarithm(losses)).mean(0)
    if settings.target:
        above = losses.nan_to_num(WORST, WORST, WORST) > TARGET
        total = total + settings.target * above.to(total).mean(0)
    if held_out is not None:
        total = total + settings.generalisation * _logarithm(held_out)
    return total


def final_score(
    weights: Mapping[str, Tensor], problem: Problem, num_steps: int, compiled: bool = False
) -> float:
    """The logarithm of the relative loss at the end, floor added; the lower, the better.

    The mean over ``STARTS`` trainings from different starting points.
    """
    members = {name: tensor.cpu() for name, tensor in weights.items()}
    generator = torch.Generator().manual_seed(0)
    training = Training.start(problem, num_steps, STARTS, generator, False, alike=False)
    training.compiled = compiled
    first = _first_loss(problem, training, generator)
    losses = training.advance(stacked([members] * STARTS), num_steps, generator)
    ending = losses[-max(1, num_steps // 10) :]
    return _logarithm(ending.mean(0) / first).mean().item()


def train_optimizer(
    folder: Path,
    settings: Settings,
    *,
    data: Path | None = None,
    device: str = "cpu",
    checkpoint_seconds: float = 180.0,
) -> Path:
    """Meta-trains in a folder, going on where a checkpoint there left off.

    Args:
        folder: For checkpoint, log and best weights; made where there is none.
        settings: Of a new meta-training, or the same as before to go on.
        data: Holds MNIST; needed where the settings say so.
        device: Where the inner trainings run.
        checkpoint_seconds: Between two checkpoints.

    Returns:
        The file of the weights that were best on validation problems; those at the end, whose
        noise the falling rate has averaged, are beside it.

    Raises:
        TrainingError: The settings have no meta-steps.
        DataError: MNIST or KEEL's data are wanted and not there.
        CheckpointError: The folder's checkpoint cannot be read or is of other settings.
    """
    if not settings.meta_steps:
        raise TrainingError("nothing to do: give meta-steps for the mixture, rule or schedule")
    if settings.mnist and data is None:
        raise DataError("these settings include MNIST: say with --data where it is")
    extra = [mnist(data)] if settings.mnist and data is not None else []
    extra += keel() if settings.keel else []
    run = MetaTraining(settings, extra, usable_device(device))
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CHECKPOINT).exists():
        checkpoint.restore(run, folder / CHECKPOINT)
    rows = read_log(folder / LOG, "meta_step", run.state.meta_step)
    begun, saved = time.monotonic() - run.state.seconds, time.monotonic()
    with tqdm(total=settings.meta_steps, initial=run.state.meta_step, disable=None) as bar:
        while run.state.meta_step < settings.meta_steps:
            rows.append(_one_step(run, folder, begun))
            bar.update()
            if time.monotonic() - saved > checkpoint_seconds:
                _save(run, folder, rows)
                saved = time.monotonic()
    _save(run, folder, rows)
    return folder / BEST


def _one_step(run: MetaTraining, folder: Path, begun: float) -> dict[str, object]:
    phase, objective, state, validation = run.phase, run.advance(), run.state, ""
    state.seconds = time.monotonic() - begun
    settings = run.settings
    if state.meta_step % settings.validate_every == 0 or state.meta_step == settings.meta_steps:
        score = run.validate()
        validation = f"{score:.5f}"
        if score < state.best:
            state.best = score
            _save_weights(run, folder / BEST, score)
        if state.meta_step == settings.meta_steps:
            _save_weights(run, folder / LAST, score)
    sizes = [f"{size:.5f}" for size in state.weights["step.log_size"].exp().tolist()]
    values = (state.meta_step, f"{state.seconds:.1f}", phase, f"{objective:.5f}",
              *sizes, validation)  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _save_weights(run: MetaTraining, path: Path, score: float) -> None:
    save_weights(
        {name: tensor.cpu() for name, tensor in run.state.weights.items()},
        path,
        meta_step=str(run.state.meta_step),
        validation=f"{score:.5f}",
        settings=str(asdict(run.settings)),
    )


def _save(run: MetaTraining, folder: Path, rows: list[dict[str, object]]) -> None:
    # The log first: rows beyond the checkpoint are dropped at a resume.
    write_log(folder / LOG, COLUMNS, rows)
    checkpoint.save(run, folder / CHECKPOINT)


def _first_loss(problem: Problem, training: Training, generator: torch.Generator) -> Tensor:
    data = problem.dataset.sample(generator, 4 * problem.rows)
    with torch.no_grad():
        return problem.losses(training.parameters, *data)


def _logarithm(relative: Tensor) -> Tensor:
    """The logarithm of losses over the first loss, bounded both ways."""
    bounded = relative.nan_to_num(WORST, WORST, WORST).clamp(0, WORST)
    return (bounded + RELATIVE_LOSS_FLOOR).log()
