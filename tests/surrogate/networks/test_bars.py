"""Bar distributions."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metahpo.surrogate.networks.bars import BarDistribution


def bars(seed: int, count: int = 6) -> BarDistribution:
    generator = torch.Generator().manual_seed(seed)
    borders = torch.randn(count - 1, generator=generator, dtype=torch.float64).sort().values
    logits = 2 * torch.randn(count, generator=generator, dtype=torch.float64)
    tails = 0.2 + torch.rand(2, generator=generator, dtype=torch.float64)
    return BarDistribution(logits, borders, tails)


def expectation(distribution: BarDistribution, function: Callable[[Tensor], Tensor]) -> float:
    """By the midpoint rule, bar by bar: the reference for the closed forms."""
    edges = [distribution.borders[0] - 12, *distribution.borders, distribution.borders[-1] + 12]
    total = 0.0
    for low, high in pairwise(edges):
        step = (high - low) / 20_000
        middles = low + step * (torch.arange(20_000) + 0.5)
        logits, tails = distribution.log_masses.expand(20_000, -1), distribution.tails
        densities = BarDistribution(logits, distribution.borders, tails).log_density(middles).exp()
        total += float((function(middles) * densities).sum() * step)
    return total


@pytest.mark.parametrize("seed", range(4))
def test_moments_and_expected_improvement_equal_quadrature(seed: int) -> None:
    distribution = bars(seed)
    mean = expectation(distribution, lambda y: y)
    assert expectation(distribution, torch.ones_like) == pytest.approx(1.0, abs=1e-7)
    assert float(distribution.mean) == pytest.approx(mean, abs=1e-7)
    variance = expectation(distribution, lambda y: (y - mean) ** 2)
    assert float(distribution.variance) == pytest.approx(variance, abs=1e-7)
    # Below all inner bars, at a border, inside a bar, and above all.
    middle = float(distribution.borders[1:3].mean())
    for best in (float(distribution.borders[0]) - 0.7, float(distribution.borders[1]), middle,
                 float(distribution.borders[-1]) + 0.4):  # fmt: skip
        reference = expectation(distribution, lambda y, best=best: (y - best).clamp_min(0.0))
        assert float(distribution.expected_improvement(best)) == pytest.approx(reference, abs=2e-6)


@given(seed=st.integers(0, 1000), probability=st.floats(0.001, 0.999))
@settings(max_examples=50, deadline=None)
def test_quantiles_invert_the_distribution_function(seed: int, probability: float) -> None:
    distribution = bars(seed)
    assert float(distribution.cdf(distribution.quantile(probability))) == pytest.approx(
        probability, abs=1e-6
    )


def test_a_batch_of_distributions_equals_single_ones() -> None:
    single = [bars(seed) for seed in range(3)]
    borders, tails = single[0].borders, single[0].tails
    batch = BarDistribution(torch.stack([b.log_masses for b in single]), borders, tails)
    points = torch.tensor([-3.0, 0.1, 2.0], dtype=torch.float64)
    for row, alone in enumerate(single):
        alone = BarDistribution(alone.log_masses, borders, tails)
        assert torch.allclose(batch.mean[row], alone.mean)
        assert torch.allclose(batch.log_density(points)[row], alone.log_density(points[row]))
        assert torch.allclose(batch.quantile(0.3)[row], alone.quantile(0.3))
        improvement = batch.expected_improvement(points)[row]
        assert torch.allclose(improvement, alone.expected_improvement(points[row]))
