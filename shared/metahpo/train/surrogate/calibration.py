"""Calibration of the neural surrogate's intervals after its training.

The masses of its bars are raised to a power and normalised again: temperature scaling (Guo et al.
2017). The power goes into the weights of the head, so that nothing else has to know of it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.surrogate.neural.neural_process import NeuralProcess
from metahpo.train.surrogate.episodes import Episodes
from metahpo.train.surrogate.measure import INTERVALS, TRIALS, answers, coverage

# Among which the power is chosen.
POWERS = np.exp(np.linspace(-0.25, 0.25, 21))


def calibrated(network: NeuralProcess, studies: Sequence[Episodes]) -> tuple[NeuralProcess, float]:
    """The network with the power by which its intervals hold most nearly what they say.

    Args:
        network: As trained.
        studies: From ``measure.held_out``, of tasks that it was not trained on.

    Returns:
        The network, and the power.
    """
    power = fitted_power([list(answers(network, studies, count)) for count in TRIALS])
    return sharpened(network, power), power


def fitted_power(asked: Sequence[Sequence[tuple[BarDistribution, Tensor]]]) -> float:
    """The power that makes the mean absolute difference of shares held and told the least.

    Args:
        asked: For each number of trials, predictions and the scores in fact.
    """
    errors = [sum(_error(part, power) for part in asked) for power in POWERS]
    return float(POWERS[np.argmin(errors)])


def sharpened(network: NeuralProcess, power: float) -> NeuralProcess:
    """A network whose bars have the masses of this one's to a power; above 1 is sharper."""
    result = copy.deepcopy(network)
    with torch.no_grad():
        result.head.weight.mul_(power)
        result.head.bias.mul_(power)
    return result


def _error(asked: Sequence[tuple[BarDistribution, Tensor]], power: float) -> float:
    places = [_raised(answer, power).cdf(targets).flatten() for answer, targets in asked]
    return float(np.abs(np.subtract(coverage(torch.cat(places)), INTERVALS)).mean())


def _raised(answer: BarDistribution, power: float) -> BarDistribution:
    return BarDistribution(power * answer.log_masses, answer.borders, answer.tails)
