"""Meta-features of the first training steps, on curves with known parameters."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from metahpo.metafeatures import dynamics_metafeatures

STEPS = np.arange(1.0, 61.0)


def unprefixed(*arguments, **options):
    features = dynamics_metafeatures(*arguments, **options)
    return {name.removeprefix("dynamics."): value for name, value in features.items()}


def test_the_parameters_of_a_power_law_are_recovered():
    features = unprefixed(0.3 + 2.0 * STEPS**-0.7)
    assert features["power_law_exponent"] == pytest.approx(0.7, rel=1e-3)
    assert features["power_law_error"] == pytest.approx(0.0, abs=1e-5)
    assert features["initial_slope"] < 0
    assert features["improvement"] == pytest.approx(1.0)


def test_the_rate_of_an_exponential_decay_is_recovered():
    features = unprefixed(1.0 + np.exp(-5.0 * (STEPS - 1.0) / 59.0))
    assert features["convergence_rate"] == pytest.approx(5.0, rel=1e-3)


def test_the_noise_level_is_recovered_and_is_zero_on_a_line():
    rng = np.random.default_rng(0)
    line = np.linspace(1.0, 0.0, 400)
    assert unprefixed(line)["noise"] == pytest.approx(0.0, abs=1e-9)
    noisy = line + 0.02 * rng.normal(size=400)
    spread = np.ptp(noisy)
    assert unprefixed(noisy)["noise"] == pytest.approx(0.02 / spread, rel=0.15)


def test_the_plateau_is_a_fraction_of_the_steps():
    curve = np.concatenate([np.linspace(1.0, 0.0, 25), np.zeros(76)])
    assert unprefixed(curve)["plateau"] == pytest.approx(0.76, abs=0.02)
    # Steps need not be equidistant.
    pairs = [*zip(range(10), np.linspace(1, 0, 10), strict=True), (99, 0.0)]
    assert unprefixed(pairs)["plateau"] > 0.9


def test_scale_offset_and_direction_do_not_matter():
    curve = 0.3 + 2.0 * STEPS**-0.7
    reference = unprefixed(curve)
    for other, options in ((1e4 * curve + 7.0, {}), (-curve, {"maximise": True})):
        features = unprefixed(other, **options)
        for name, value in reference.items():
            assert features[name] == pytest.approx(value, nan_ok=True, rel=1e-3, abs=1e-6), name


def test_the_gradient_noise_scale_is_recovered():
    # The covariance's trace is 20 * 4 * 0.25 for one example, the squared gradient is 20.
    batches = 1.0 + 0.5 * np.random.default_rng(0).normal(size=(2000, 20))
    assert unprefixed(gradients=batches, batch_size=4)["noise_scale"] == pytest.approx(
        1.0, rel=0.1
    )
    tensors = [[torch.tensor(row[:5]), torch.tensor(row[5:]).reshape(3, 5)] for row in batches]
    assert unprefixed(gradients=tensors, batch_size=4)["noise_scale"] == pytest.approx(
        unprefixed(gradients=batches, batch_size=4)["noise_scale"]
    )


def test_a_probe_run_stops_after_the_given_steps():
    taken = []

    def train():
        model = torch.nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x = torch.linspace(-1, 1, 16)[:, None]
        while True:
            loss = ((model(x) - 3.0 * x) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            taken.append(1)
            yield loss.item()

    features = unprefixed(train=train, steps=20)
    assert features["steps"] == 20
    assert 20 <= len(taken) <= 21
    assert features["initial_slope"] < 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=12))
@example([-1.7e308, 1.7e308])
@example([-1.7e308] + [1.7e308] * 6)
@example([0.0, 5e-324] * 4)
def test_no_curve_raises_or_gives_infinite_values(values):
    features = unprefixed(values)
    assert features.keys() == unprefixed().keys()
    assert not any(math.isinf(value) for value in features.values())


def test_a_batch_size_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        dynamics_metafeatures([1.0], batch_size=0)
