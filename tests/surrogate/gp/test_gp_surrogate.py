"""The Gaussian process as a surrogate, against BoTorch's own acquisition function and SciPy."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from botorch.acquisition import LogExpectedImprovement
from optuna.distributions import FloatDistribution
from scipy.stats import norm

from metahpo.settings import Effort
from metahpo.surrogate.features import FeatureMap
from metahpo.surrogate.gp.closed_form import ClosedFormGP, Kernel, Prior
from metahpo.surrogate.gp.gp_surrogate import GPSurrogate
from metahpo.surrogate.scores import Warp
from metahpo.tasks.space import Space

# Features of numbers are the positions themselves.
SPACE = Space({"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)})
KERNEL = Kernel(np.array([0.5, 0.8]), signal=0.7, noise=0.01, constant=0.3)
RHO = np.array([0.5, 0.3, 0.2])
WARP = Warp(centre=10.0, unit=4.0, knee=0.5)


def past(X: torch.Tensor) -> torch.Tensor:
    """What three past tasks predict: known functions."""
    x, y = X[..., 0], X[..., 1]
    return torch.stack([torch.sin(5 * x), 3 * y - 1, x * y], -1)


PRIOR = Prior(cast(Any, past), RHO, kappa=1.5)
priors = pytest.mark.parametrize("prior", [None, PRIOR], ids=["without", "with prior"])


def surrogate(
    prior: Prior | None = None,
    kernel: Kernel = KERNEL,
    scores: np.ndarray | None = None,
    **options: Any,
) -> GPSurrogate:
    X = drawn(8)
    scores = np.sin(4 * X[:, 0]) + X[:, 1] if scores is None else scores
    model = ClosedFormGP(X, scores, kernel, prior)
    densities = model.log_densities
    return GPSurrogate(model, FeatureMap(SPACE), WARP, densities, Effort(), **options)


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((*shape, 2))


def moments(made: GPSurrogate, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the scores."""
    with torch.no_grad():
        mean, variance = made.model.mean_and_variance(torch.as_tensor(points))
    return mean.numpy(), np.sqrt(variance.numpy())


# ---- the improvement -----------------------------------------------------------------------


def assert_botorchs(made: GPSurrogate, points: np.ndarray) -> None:
    """Values and gradients are those of BoTorch's LogEI, whose unit is that of the scores."""
    X = torch.as_tensor(points).unsqueeze(-2).requires_grad_()
    # As a tensor: BoTorch turns numbers into float32.
    best = torch.tensor(made.model.incumbent, dtype=torch.float64)
    acquisition = LogExpectedImprovement(made.model, best_f=best)
    ours, theirs = made.improvement(X).log_expected.squeeze(-1), acquisition(X)
    torch.testing.assert_close(ours, theirs + np.log(WARP.unit))
    gradients = [torch.autograd.grad(values.sum(), X)[0] for values in (ours, theirs)]
    # BoTorch reads variances off a Cholesky factor, which rounds their last digits.
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-7)


@priors
def test_log_expected_improvement_is_botorchs_in_values(prior):
    assert_botorchs(surrogate(prior), drawn(50, seed=2))


def test_log_expected_improvement_is_botorchs_where_hardly_anything_is_expected():
    """Of one outstanding trial and many bad ones: in all branches of BoTorch's helper."""
    quiet = Kernel(KERNEL.lengthscales, signal=0.7, noise=1e-4, constant=0.3)
    ratios = []
    for worst in (-3.0, -1e2, -1e4, -1e6, -1e9):
        made = surrogate(kernel=quiet, scores=np.array([0.0, *[worst] * 7]))
        points = np.concatenate([drawn(50, seed=2), drawn(8)])
        assert_botorchs(made, points)
        mean, deviation = moments(made, points)
        ratios.append((mean - made.model.incumbent) / deviation)
    u = np.concatenate(ratios)
    assert (u > -1).any()
    assert ((u < -1) & (u > -1e6)).any()
    assert (u < -1e6).any()


@priors
def test_expected_improvement_is_the_textbooks(prior):
    """Jones et al. 1998, eq. 15, with SciPy's normal distribution."""
    made, points = surrogate(prior), drawn(50, seed=2)
    mean, deviation = moments(made, points)
    u = (mean - made.model.incumbent) / deviation
    expected = WARP.unit * deviation * (u * norm.cdf(u) + norm.pdf(u))
    with torch.no_grad():
        found = made.improvement(torch.as_tensor(points)).log_expected.exp()
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@priors
def test_the_probability_of_improvement_is_the_normal_distributions(prior):
    made, points = surrogate(prior), drawn(50, seed=2)
    mean, deviation = moments(made, points)
    with torch.no_grad():
        found = made.improvement(torch.as_tensor(points)).probability
    expected = norm.sf(made.model.incumbent, mean, deviation)
    np.testing.assert_allclose(found, expected, atol=1e-15)


@pytest.mark.parametrize("shape", [(1,), (3,), (3, 1), (2, 3, 4)])
def test_improvements_have_the_batchs_shape(shape):
    points = torch.as_tensor(drawn(*shape, seed=2))
    found = surrogate(PRIOR).improvement(points)
    assert found.log_expected.shape == found.probability.shape == shape


# ---- predictions ---------------------------------------------------------------------------


@priors
def test_predictions_are_the_moments_of_the_warped_scores(prior):
    made, points = surrogate(prior), drawn(20, seed=2)
    mean, deviation = moments(made, points)
    found = made.predict(points)
    assert found is not None
    np.testing.assert_allclose(found[0], WARP.values(mean))
    low, high = WARP.values(mean - deviation), WARP.values(mean + deviation)
    np.testing.assert_allclose(found[1], (high - low) / 2)


def test_nothing_is_predicted_without_a_unit():
    made = surrogate(has_unit=False)
    assert made.predict(drawn(3)) is None
    # What may be gained is comparable all the same.
    assert made.improvement(torch.as_tensor(drawn(3))).log_expected.isfinite().all()


def test_task_weights_are_the_models():
    assert surrogate().task_weights.shape == (0,)
    made = surrogate(PRIOR, trust=1.0)
    np.testing.assert_array_equal(made.task_weights, made.model.task_weights)
    assert made.trust == 1.0


# ---- pending trials ------------------------------------------------------------------------


@priors
def test_pending_trials_keep_means_and_lose_uncertainty(prior):
    made, pending = surrogate(prior), drawn(2, seed=1)
    later = made.condition_on_pending(pending)
    before, after = made.predict(pending), later.predict(pending)
    assert before is not None
    assert after is not None
    np.testing.assert_allclose(after[0], before[0], atol=1e-6)
    assert (after[1] < before[1]).all()
    assert (moments(later, pending)[1] ** 2 <= KERNEL.noise).all()
    improvement = [s.improvement(torch.as_tensor(pending)).log_expected for s in (made, later)]
    assert (improvement[1] < improvement[0]).all()


def test_a_promising_pending_trial_raises_the_incumbent():
    """Ginsbourger et al. 2010: what is expected of a pending trial already is no improvement."""
    X = drawn(8)
    smooth = Kernel(np.array([3.0, 3.0]), signal=20.0, noise=1e-4, constant=1.0)
    made = surrogate(kernel=smooth, scores=X[:, 0] + X[:, 1])
    corner = np.array([[1.0, 1.0]])
    expected = moments(made, corner)[0][0]
    assert expected > made.model.incumbent + 0.1
    later = made.condition_on_pending(corner)
    assert later.model.incumbent == pytest.approx(expected, abs=1e-5)


def test_conditioning_changes_nothing_in_the_original():
    made, points = surrogate(PRIOR), torch.as_tensor(drawn(20, seed=2))
    before = made.improvement(points)
    made.condition_on_pending(drawn(3, seed=1))
    torch.testing.assert_close(made.improvement(points), before, rtol=0, atol=0)


def test_without_pending_trials_it_is_the_same_surrogate():
    made = surrogate()
    assert made.condition_on_pending(np.empty((0, 2))) is made
