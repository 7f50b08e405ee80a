"""Training of a batch of identical networks, each by an optimizer with its own weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from metahpo.optim.rule import (
    Moments,
    Weights,
    accumulate_,
    direction,
    kind_of,
    layer_scale,
    rows_and_columns,
)
from metahpo.optim.schedule import LossStatistics, no_losses, step_sizes
from metahpo.train.optimizer.inner_problems import Problem


@dataclass
class InnerTraining:
    """A batch of networks in training.

    Attributes:
        problem: The problem they are trained on.
        num_steps: Planned number of steps.
        parameters: ``batch x shape`` each.
        moments: Moments of each parameter, ``batch x rows x columns`` each.
        losses: Statistics of the losses for the schedules; None to withhold losses from them.
        step: Number of steps taken.
        compiled: Whether to compile updates, which takes minutes and then saves most of the time.
    """

    problem: Problem
    num_steps: int
    parameters: list[Tensor]
    moments: list[Moments]
    losses: LossStatistics | None
    step: int = 0
    compiled: bool = False

    @classmethod
    def start(
        cls,
        problem: Problem,
        num_steps: int,
        batch: int,
        generator: torch.Generator,
        *,
        use_losses: bool,
        same_start: bool = True,
    ) -> InnerTraining:
        """Start a training.

        Args:
            problem: The problem to train on.
            num_steps: Planned number of steps.
            batch: Number of networks.
            generator: Source of the initial parameters.
            use_losses: Whether the schedules receive the losses.
            same_start: Whether all networks have the same initial parameters.
        """
        starts = [problem.initial(generator) for _ in range(1 if same_start else batch)]
        parameters = [
            torch.stack(parts).expand(batch, *parts[0].shape).contiguous()
            for parts in zip(*starts, strict=True)
        ]
        moments = [Moments(*(torch.zeros_like(_form(p)) for _ in range(3))) for p in parameters]
        losses = no_losses(batch) if use_losses else None
        if losses is not None:
            losses = LossStatistics(*(part.to(parameters[0].device) for part in losses))
        return cls(problem, num_steps, parameters, moments, losses)

    @property
    def kinds(self) -> list[int]:
        """Kind of each parameter, as the rule distinguishes them."""
        return [kind_of(torch.Size(p.shape), p.embedding) for p in self.problem.network.parameters]

    @property
    def finished(self) -> bool:
        """Whether all steps have been taken."""
        return self.step >= self.num_steps

    def advance(self, weights: Weights, steps: int, generator: torch.Generator) -> Tensor:
        """Take up to ``steps`` steps, fewer at the end of the training.

        Args:
            weights: The optimizers' weights, ``batch x shape`` or ``1 x shape`` each.
            steps: Number of steps.
            generator: Source of minibatches and noise, shared by all networks of the batch.

        Returns:
            The losses before each step, ``steps taken x batch``.
        """
        steps = min(steps, self.num_steps - self.step)
        return torch.stack([self._step(weights, generator) for _ in range(steps)])

    def _step(self, weights: Weights, generator: torch.Generator) -> Tensor:
        problem = self.problem
        data = problem.dataset.sample(generator, problem.rows)
        losses, gradients = problem.gradients(self.parameters, *data)
        if problem.gradient_noise:
            gradients = [_noisy(g, problem.gradient_noise, generator) for g in gradients]
        sizes = self._step_sizes(weights, losses)
        self.step += 1
        for place, (gradient, kind) in enumerate(zip(gradients, self.kinds, strict=True)):
            parameter, moments = _form(self.parameters[place]), self.moments[place]
            # Other strides would trigger another compilation.
            gradient = _form(gradient.contiguous())
            accumulate_(moments, gradient)
            unbiased = moments.corrected(self.step)
            update = direction(weights, kind, gradient, parameter, unbiased, self.compiled)
            form = rows_and_columns(self.parameters[place].shape[1:])
            parameter.sub_(layer_scale(kind, form) * sizes[:, kind, None, None] * update)
        return losses

    def _step_sizes(self, weights: Weights, losses: Tensor) -> Tensor:
        features = losses.new_zeros(len(losses), 2)
        if self.losses is not None:
            self.losses = self.losses.with_loss(losses)
            features = self.losses.features()
        step = torch.full_like(losses, self.step)
        return step_sizes(weights, step, torch.full_like(losses, self.num_steps), features)


def validation_losses(
    training: InnerTraining, generator: torch.Generator, batches: int = 1
) -> Tensor:
    """Return mean losses on held-out rows: ``batch``."""
    problem = training.problem
    with torch.no_grad():
        each = [
            problem.losses(
                training.parameters,
                *problem.dataset.sample(generator, 4 * problem.rows, validation=True),
            )
            for _ in range(batches)
        ]
    return torch.stack(each).mean(0)


def batched(weights: Weights) -> dict[str, Tensor]:
    """Add a batch dimension of 1 to weights."""
    return {name: tensor[None] for name, tensor in weights.items()}


def stacked(many: Iterable[Weights]) -> dict[str, Tensor]:
    """Stack several sets of weights into one batch."""
    members = list(many)
    return {name: torch.stack([w[name] for w in members]) for name in members[0]}


def _form(tensor: Tensor) -> Tensor:
    """View ``batch x shape`` as ``batch x rows x columns``."""
    return tensor.view(len(tensor), *rows_and_columns(tensor.shape[1:]))


def _noisy(gradient: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Add noise in proportion to each network's gradient, the same for the whole batch."""
    noise = torch.randn(gradient.shape[1:], generator=generator).to(gradient)
    dims = tuple(range(1, gradient.ndim))
    size = gradient.square().mean(dims, keepdim=True).sqrt()
    return gradient + deviation * size * noise
