"""Calibration of the neural surrogate's intervals after its training.

Temperature scaling (Guo et al. 2017, "On calibration of modern neural networks"): the masses of
the predicted bars are raised to a power and renormalised. The power is folded into the weights of
the output layer, so that no other code has to apply it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.surrogate.neural.neural_process import NeuralProcess
from metahpo.train import TrainingError
from metahpo.train.intervals import INTERVALS, coverage
from metahpo.train.surrogate.episodes import Episodes
from metahpo.train.surrogate.measure import MIN_TRIALS, TRIALS, held_out, predictions
from metahpo.train.surrogate.task_families import Family

# Candidate powers.
POWERS = np.exp(np.linspace(-0.25, 0.25, 21))

# Predicted distributions and the observed scores.
Pairs = Sequence[tuple[BarDistribution, Tensor]]


def calibrated(network: NeuralProcess, studies: Sequence[Episodes]) -> tuple[NeuralProcess, float]:
    """Calibrate a network on held-out studies.

    Args:
        network: The trained network.
        studies: From ``measure.held_out``, of tasks that it was not trained on.

    Returns:
        The calibrated network, and the power.
    """
    power = fitted_power([list(predictions(network, studies, count)) for count in TRIALS])
    return sharpened(network, power), power


def calibration_studies(
    families: Sequence[Family],
    others: Sequence[Family],
    without: Sequence[str],
    max_tasks: int | None,
) -> list[Episodes]:
    """Return the held-out studies of tasks that the training does not leave out.

    Tasks that the training must not learn from must not decide how sharp its predictions are.

    Args:
        families: The training tasks.
        others: The validation tasks.
        without: Tasks whose names start with one of these are left out of the training.
        max_tasks: Upper bound of the tasks taken from a family; None for all.

    Raises:
        TrainingError: There are none.
    """
    kept = [
        replace(
            family,
            tasks=tuple(t for t in family.tasks if not t.name.startswith(tuple(without))),
        )
        for family in others
    ]
    studies = list(held_out(families, kept, max_tasks))
    if not studies:
        raise TrainingError(
            f"--calibrate needs --validation tasks of at least {MIN_TRIALS} trials that "
            "--without does not leave out"
        )
    return studies


def fitted_power(groups: Sequence[Pairs]) -> float:
    """Return the power with the smallest error between actual and nominal coverage.

    Args:
        groups: One for each number of trials; their mean absolute errors are added up.
    """
    errors = [sum(_coverage_error(pairs, power) for pairs in groups) for power in POWERS]
    return float(POWERS[np.argmin(errors)])


def sharpened(network: NeuralProcess, power: float) -> NeuralProcess:
    """Return a network whose bar masses are raised to ``power``; above 1 is sharper."""
    result = copy.deepcopy(network)
    with torch.no_grad():
        result.head.weight.mul_(power)
        result.head.bias.mul_(power)
    return result


def _coverage_error(pairs: Pairs, power: float) -> float:
    cdf_values = [_raised(bars, power).cdf(targets).flatten() for bars, targets in pairs]
    return float(np.abs(np.subtract(coverage(torch.cat(cdf_values)), INTERVALS)).mean())


def _raised(bars: BarDistribution, power: float) -> BarDistribution:
    return BarDistribution(power * bars.log_masses, bars.borders, bars.tails)
