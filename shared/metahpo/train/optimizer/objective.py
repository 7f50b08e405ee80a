"""What the meta-training minimises, and the validation score of weights.

Notation: batch, the networks trained at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metahpo.train.optimizer.inner import InnerTraining, stacked
from metahpo.train.optimizer.inner_problems import Problem
from metahpo.train.optimizer.optimizer_settings import Settings

# Added to relative losses before taking the logarithm, and the bound above which they are clipped.
RELATIVE_LOSS_FLOOR, MAX_RELATIVE_LOSS = 0.01, 3.0
# Share of a training that counts as its end.
ENDING = 0.2
# Relative loss up to which time is measured.
TARGET = 0.3
# Trainings of each validation problem, from different starting points.
STARTS = 3


def objective(
    settings: Settings, losses: Tensor, progress: Tensor, held_out: Tensor | None
) -> Tensor:
    """Return the objective of a part of a training, to be minimised: ``batch``.

    Args:
        settings: Weights of the terms.
        losses: ``steps x batch``, relative to the initial loss.
        progress: ``steps``, progress of the training in [0, 1].
        held_out: ``batch``, loss on held-out rows relative to the initial loss; None to leave
            this term out.
    """
    importance = 1 + settings.final * (progress > 1 - ENDING)
    total = (importance[:, None] * log_relative_loss(losses)).mean(0)
    if settings.target:
        bounded = losses.nan_to_num(MAX_RELATIVE_LOSS, MAX_RELATIVE_LOSS, MAX_RELATIVE_LOSS)
        total = total + settings.target * (bounded > TARGET).to(total).mean(0)
    if held_out is not None:
        total = total + settings.generalisation * log_relative_loss(held_out)
    return total


def log_relative_loss(relative: Tensor) -> Tensor:
    """Return the bounded logarithm of relative losses; NaN counts as the largest."""
    finite = relative.nan_to_num(MAX_RELATIVE_LOSS, MAX_RELATIVE_LOSS, MAX_RELATIVE_LOSS)
    return (finite.clamp(0, MAX_RELATIVE_LOSS) + RELATIVE_LOSS_FLOOR).log()


def initial_loss(problem: Problem, training: InnerTraining, generator: torch.Generator) -> Tensor:
    """Return the loss of each network before its first step: ``batch``."""
    data = problem.dataset.sample(generator, 4 * problem.rows)
    with torch.no_grad():
        return problem.losses(training.parameters, *data)


def final_score(
    weights: Mapping[str, Tensor], problem: Problem, num_steps: int, compiled: bool = False
) -> float:
    """Return the log relative loss at the end of a training; lower is better.

    Args:
        weights: The optimizer's weights.
        problem: The problem to train on.
        num_steps: Length of the training.
        compiled: Whether to compile the updates.

    Returns:
        The mean over ``STARTS`` trainings from different starting points.
    """
    members = {name: tensor.cpu() for name, tensor in weights.items()}
    generator = torch.Generator().manual_seed(0)
    training = InnerTraining.start(
        problem, num_steps, STARTS, generator, use_losses=False, same_start=False
    )
    training.compiled = compiled
    initial = initial_loss(problem, training, generator)
    losses = training.advance(stacked([members] * STARTS), num_steps, generator)
    ending = losses[-max(1, num_steps // 10) :]
    return log_relative_loss(ending.mean(0) / initial).mean().item()
