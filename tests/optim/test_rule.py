"""The update rule: the fixed mixture against the network, and orthogonalisation."""

import pytest
import torch
from support.small_training import STEPS, small_network, train, values, weights_with_tiny_network
from torch import nn

from metahpo.optim import LearnedOptimizer, initial_weights, rule
from metahpo.optim.fixed import fixed_direction, fixed_mixtures
from metahpo.optim.orthogonal import orthogonalised
from metahpo.optim.weights import shipped_weights


@pytest.mark.parametrize("shape", [(6, 4), (3, 5), (7, 7), (1, 9)])
@pytest.mark.parametrize("kind", range(rule.KINDS))
def test_the_fixed_rule_equals_the_full_rule_with_a_zero_network(kind: int, shape) -> None:
    """With coefficients for all candidates, and for about three in ten."""
    generator = torch.Generator().manual_seed(0)
    gradient, parameter, fast, slow = torch.randn(4, 2, *shape, generator=generator).double()
    moments = rule.Moments(fast, torch.rand(gradient.shape, generator=generator).double(), slow)
    weights = initial_weights()
    for dropped in (0.0, 0.7):
        mix = torch.randn(rule.KINDS, rule.CANDIDATES, generator=generator)
        weights["rule.mix"] = mix * (torch.rand(mix.shape, generator=generator) >= dropped)
        batched = {name: tensor.double()[None] for name, tensor in weights.items()}
        expected = rule.direction(batched, kind, gradient, parameter, moments.corrected(7))
        mixtures = fixed_mixtures(weights)
        assert mixtures is not None
        found = fixed_direction(mixtures[kind], kind, gradient, moments)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("slow", [0.0, 0.5])
def test_skipping_a_zero_network_gives_the_same_parameters_as_evaluating_it(slow: float) -> None:
    zero, tiny = shipped_weights(), weights_with_tiny_network()
    mix = zero["rule.mix"].clone()
    mix[:, 2] = slow
    trained = []
    for weights in (zero, tiny):
        model = small_network(torch.float64)
        weights = {**weights, "rule.mix": mix}
        train(model, LearnedOptimizer(model.parameters(), STEPS, weights=weights), 20)
        trained.append(values(model))
    for one, two in zip(*trained, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)


def test_a_tall_matrix_of_several_squares_is_orthogonalised_square_by_square() -> None:
    generator = torch.Generator().manual_seed(0)
    tall = torch.randn(2, 12, 4, generator=generator)
    # The gradients of one gate are far larger than those of the others.
    tall[:, :4] *= 100
    whole = orthogonalised(tall)
    for rows in (slice(0, 4), slice(4, 8), slice(8, 12)):
        torch.testing.assert_close(whole[:, rows], orthogonalised(tall[:, rows]))
    odd = orthogonalised(tall[:, :11])
    assert (torch.linalg.svdvals(odd / 11**0.5) > 0.5).all()


@pytest.mark.parametrize("shape", [(130, 150), (260, 300), (600, 256), (512, 256)])
def test_large_matrices_are_orthogonalised_in_lower_precision_with_the_same_directions(
    shape: tuple[int, int],
) -> None:
    """In bfloat16 on devices where that is fast."""
    matrix = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    single, double = orthogonalised(matrix), orthogonalised(matrix.double())
    assert single.dtype == torch.float32
    cosine = nn.functional.cosine_similarity(single.flatten(), double.float().flatten(), dim=0)
    assert cosine > 0.999
    spread = torch.linalg.svdvals(single / max(shape) ** 0.5)
    assert (spread > 0.5 * spread.max()).all()
