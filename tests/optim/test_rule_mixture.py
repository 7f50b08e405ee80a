"""The rule's mixture of candidate directions, computed in several ways."""

import pytest
import torch

from metahpo.optim import initial_weights, rule


def test_the_elementwise_mixture_equals_the_matrix_product() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(3, *tensor.shape, generator=generator)
        for name, tensor in initial_weights().items()
    }
    features = torch.randn(3, rule.FEATURES, 40, generator=generator)
    mix = weights["rule.mix"][:, 1, :, None]
    one = rule.mix_with_matmul(weights, mix, features)
    two = rule.mix_elementwise(weights, mix, features)
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 40, 100])
def test_mixing_rows_in_chunks_equals_mixing_all_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(3, *tensor.shape, generator=generator)
        for name, tensor in initial_weights().items()
    }
    gradient, parameter, *parts = torch.randn(5, 3, 7, 4, generator=generator)
    moments = rule.Moments(parts[0], parts[2].square(), parts[1])
    whole = rule.direction(weights, rule.VECTOR, gradient, parameter, moments)
    monkeypatch.setitem(rule.CHUNK, "cpu", at_once)
    by_rows = rule.direction(weights, rule.VECTOR, gradient, parameter, moments)
    torch.testing.assert_close(by_rows, whole, rtol=1e-4, atol=1e-5)
