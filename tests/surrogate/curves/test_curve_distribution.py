"""Closed forms of predicted distributions."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from metahpo.surrogate.curves.curve_predictions import (
    CurveDistribution,
)
from metahpo.surrogate.curves.curve_process import laplace_bars
from metahpo.surrogate.networks.bars import BarDistribution


def test_closed_forms_of_the_distribution_equal_integrals() -> None:
    torch.manual_seed(1)
    borders, _ = laplace_bars(12)
    bars = BarDistribution(torch.randn(12).double(), borders, torch.full((2,), 30.0))
    found = CurveDistribution(torch.tensor(70.0).double(), torch.tensor(0.5).double(), bars)

    def density(value: float) -> float:
        return float(found.log_density(torch.tensor(value)).exp())

    ends = [-100.0, *(70 + 0.5 * borders.double()).tolist(), 240.0]

    def integral(function, low: float = -100.0) -> float:
        parts = [p for p in ends if p > low]
        return sum(quad(function, a, b)[0] for a, b in zip([low, *parts[:-1]], parts, strict=True))

    assert integral(density) == pytest.approx(1, abs=1e-5)
    assert integral(lambda v: v * density(v)) == pytest.approx(found.mean.item(), abs=1e-3)
    mean = found.mean.item()
    spread = integral(lambda v: (v - mean) ** 2 * density(v))
    assert spread == pytest.approx(found.variance.item(), rel=1e-3)
    gain = integral(lambda v: (v - 71) * density(v), 71.0)
    assert gain == pytest.approx(found.expected_improvement(71.0).item(), rel=1e-3)
    for probability in (0.03, 0.5, 0.9):
        value = found.quantile(probability)
        assert found.cdf(value).item() == pytest.approx(probability, abs=1e-5)
        below = 1 - integral(density, value.item())
        assert below == pytest.approx(probability, abs=1e-4)


def test_initial_bars_approximate_a_laplace_distribution() -> None:
    borders, masses = laplace_bars(40)
    assert len(borders) == 39
    assert bool((borders.diff() > 0).all())
    assert float(masses.sum()) == pytest.approx(1, abs=1e-4)
    bars = BarDistribution(masses.log(), borders, torch.full((2,), 30.0))
    # A standard Laplace distribution has its quartiles at log 2.
    quartiles = bars.quantile(torch.tensor([0.25, 0.5, 0.75])).numpy()
    np.testing.assert_allclose(quartiles, [-np.log(2), 0, np.log(2)], atol=0.02)
