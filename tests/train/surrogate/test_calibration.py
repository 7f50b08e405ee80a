"""Calibration of prediction intervals."""

from pathlib import Path

import pytest
import torch
from support.recorded_tasks import BRIEF, SMALL, archive

from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.train.intervals import coverage
from metahpo.train.surrogate.calibration import fitted_power, sharpened
from metahpo.train.surrogate.measure import (
    held_out,
    predictions,
)
from metahpo.train.surrogate.surrogate_training import SurrogateTraining
from metahpo.train.surrogate.task_families import read_families


def test_coverage_is_the_share_inside_central_intervals() -> None:
    cdf_values = torch.tensor([0.5, 0.3, 0.8, 0.05, 0.99])
    assert coverage(cdf_values) == pytest.approx((0.4, 0.6, 0.8))


@pytest.mark.parametrize("power", [0.85, 1.0, 1.15])
def test_calibration_recovers_the_power_that_values_were_sampled_with(power: float) -> None:
    """Right to 0.06, two steps of its grid; by chance wrong in less than one of a million."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 30, generator=generator)
    borders, tails = torch.linspace(-3, 3, 29), torch.tensor([0.5, 0.5])
    drawn = torch.rand(len(logits), generator=generator).clamp(1e-6, 1 - 1e-6)
    values = BarDistribution(power * logits, borders, tails).quantile(drawn)
    found = fitted_power([[(BarDistribution(logits, borders, tails), values)]])
    assert found == pytest.approx(power, abs=0.06)


def test_a_sharpened_network_raises_its_masses_to_the_power(tmp_path: Path) -> None:
    families = read_families(archive(tmp_path, "tasks", [0.2, 0.4, 0.6]))
    network = SurrogateTraining(BRIEF, families, architecture=SMALL).averaged_network()
    studies = list(held_out(families, families))
    ((before, _),) = predictions(network, studies, 3)
    ((after, _),) = predictions(sharpened(network, 1.3), studies, 3)
    wanted = before.masses**1.3
    torch.testing.assert_close(after.masses, wanted / wanted.sum(-1, keepdim=True))
