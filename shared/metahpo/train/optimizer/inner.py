"""Training a batch of equal networks, each with an optimizer of its own weights."""

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
class Training:
    """Networks in the midst of training.

    Attributes:
        problem: What they learn.
        num_steps: For how long they will.
        parameters: ``batch x shape`` each.
        moments: Those of each parameter, ``batch x rows x columns``.
        losses: What the schedules know of the losses; None where they are told nothing.
        step: Steps so far.
        compiled: Whether updates are compiled: minutes at first, then several times faster.
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
        tell_losses: bool,
        alike: bool = True,
    ) -> Training:
        """All networks of the batch start alike, or each in its own place."""
        starts = [problem.initial(generator) for _ in range(1 if alike else batch)]
        parameters = [
            torch.stack(parts).expand(batch, *parts[0].shape).contiguous()
            for parts in zip(*starts, strict=True)
        ]
        moments = [Moments(*(torch.zeros_like(_form(p)) for _ in range(3))) for p in parameters]
        losses = no_losses(batch) if tell_losses else None
        if losses is not None:
            losses = LossStatistics(*(part.to(parameters[0].device) for part in losses))
        return cls(problem, num_steps, parameters, moments, losses)

    @property
    def kinds(self) -> list[int]:
        """What the rule takes each parameter for."""
        return [kind_of(torch.Size(p.shape), p.embedding) for p in self.problem.network.parameters]

    @property
    def finished(self) -> bool:
        """Whether all steps were taken."""
        return self.step >= self.num_steps

    def advance(self, weights: Weights, steps: int, generator: torch.Generator) -> Tensor:
        """Takes steps, though none past the end.

        Args:
            weights: With a batch dimension of the networks' or of 1.
            steps: How many.
            generator: Of minibatches and noise; the same for all networks of the batch.

        Returns:
            The losses before each step: ``steps taken x batch``.
        """
        steps = min(steps, self.num_steps - self.step)
        return torch.stack([self._one(weights, generator) for _ in range(steps)])

    def _one(self, weights: Weights, generator: torch.Generator) -> Tensor:
        problem = self.problem
        data = problem.dataset.sample(generator, problem.rows)
        losses, gradients = problem.gradients(self.parameters, *data)
        if problem.gradient_noise:
            gradients = [_noisy(g, problem.gradient_noise, generator) for g in gradients]
        sizes = self._step_sizes(weights, losses)
        self.step += 1
        for place, (gradient, kind) in enumerate(zip(gradients, self.kinds, strict=True)):
            parameter, moments = _form(self.parameters[place]), self.moments[place]
            # Other strides would be compiled anew.
            gradient = _form(gradient.contiguous())
            accumulate_(moments, gradient)
            unbiased = moments.corrected(self.step)
            way = direction(weights, kind, gradient, parameter, unbiased, self.compiled)
            form = rows_and_columns(self.parameters[place].shape[1:])
            parameter.sub_(layer_scale(kind, form) * sizes[:, kind, None, None] * way)
        return losses

    def _step_sizes(self, weights: Weights, losses: Tensor) -> Tensor:
        known = losses.new_zeros(len(losses), 2)
        if self.losses is not None:
            self.losses = self.losses.with_loss(losses)
            known = self.losses.features()
        step = torch.full_like(losses, self.step)
        return step_sizes(weights, step, torch.full_like(losses, self.num_steps), known)


def validation_losses(training: Training, generator: torch.Generator, batches: int = 1) -> Tensor:
    """Mean losses on held-out rows: ``batch``."""
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
    """Weights without a batch, as a batch of one."""
    return {name: tensor[None] for name, tensor in weights.items()}


def stacked(many: Iterable[Weights]) -> dict[str, Tensor]:
    """Several sets of weights as one batch."""
    members = list(many)
    return {name: torch.stack([w[name] for w in members]) for name in members[0]}


def _form(tensor: Tensor) -> Tensor:
    """``batch x shape`` as ``batch x rows x columns``; a view."""
    return tensor.view(len(tensor), *rows_and_columns(tensor.shape[1:]))


def _noisy(gradient: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """The same noise for each network of the batch, in proportion to its gradient."""
    noise = torch.randn(gradient.shape[1:], generator=generator).to(gradient)
    dims = tuple(range(1, gradient.ndim))
    size = gradient.square().mean(dims, keepdim=True).sqrt()
    return gradient + deviation * size * noise
