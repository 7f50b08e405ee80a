"""Evolution strategies: gradient estimates and standardised objectives."""

import torch

from metahpo.train.optimizer import evolution


def test_the_gradient_estimate_is_unbiased_for_a_linear_objective() -> None:
    """Unbiased; by chance wrong by more than 0.2 less than once in 10,000 (5 deviations)."""
    weights = {"step.log_size": torch.zeros(2), "schedule.log_shape": torch.zeros(3)}
    slope = torch.tensor([1.0, -0.5])
    generator = torch.Generator().manual_seed(0)
    directions = evolution.perturbations(weights, "rule", 4000, generator)
    members = evolution.perturbed(weights, directions, 0.1)
    estimate = evolution.gradient(members["step.log_size"] @ slope, directions, 0.1)
    assert estimate.keys() == {"step.log_size"}
    torch.testing.assert_close(estimate["step.log_size"], slope, atol=0.2, rtol=0)


def test_objectives_of_any_scale_have_equal_weight() -> None:
    objectives = torch.tensor([0.3, -1.0, 0.2, 0.5, 0.1, 0.0])
    one, ten = (evolution.standardised(scale * objectives) for scale in (100.0, 1000.0))
    torch.testing.assert_close(one - one[0], ten - ten[0], rtol=1e-3, atol=1e-3)
    silent = evolution.standardised(1e-6 * objectives)
    assert (silent - silent[0]).abs().max() < 1e-3
