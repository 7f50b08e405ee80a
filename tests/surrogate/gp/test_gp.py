"""The closed-form process against a textbook reference, GPyTorch and BoTorch's interface."""

from typing import Any, cast

import gpytorch
import numpy as np
import pytest
import torch
from botorch.acquisition import LogExpectedImprovement, qLogExpectedImprovement
from botorch.sampling import SobolQMCNormalSampler
from scipy.stats import multivariate_normal, norm

from metahpo.surrogate.gp.closed_form import ClosedFormGP, Kernel, Prior
from metahpo.surrogate.gp.kernel import JITTER, matern52

KERNEL = Kernel(np.array([0.5, 0.8]), signal=0.7, noise=0.01, constant=0.3)
RHO = np.array([0.5, 0.3, 0.2])


class Past:
    """Three past tasks that are known functions."""

    def __call__(self, X: torch.Tensor) -> torch.Tensor:
        x, y = X[..., 0], X[..., 1]
        return torch.stack([torch.sin(5 * x), 3 * y - 1, x * y], -1)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self(torch.as_tensor(X)).numpy()


PRIOR = Prior(cast(Any, Past()), RHO, kappa=1.5)
priors = pytest.mark.parametrize("prior", [None, PRIOR], ids=["without", "with prior"])


def data(n: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(seed).random((n, 2))
    return X, np.sin(4 * X[:, 0]) + X[:, 1]


def textbook(
    X: np.ndarray, scores: np.ndarray, kernel: Kernel, prior: Prior | None, new: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rasmussen and Williams 2006, eqs. 2.38 with a mean, by an explicit inverse."""

    def mean(A):
        return PRIOR.past.predict(A) @ prior.rho if prior else np.zeros(len(A))

    def covariance(A, B):
        own = kernel.signal * matern52(A, B, kernel.lengthscales) + kernel.constant
        if not prior:
            return own
        weights = np.diag(prior.kappa * prior.rho)
        return own + PRIOR.past.predict(A) @ weights @ PRIOR.past.predict(B).T

    gram = covariance(X, X) + (kernel.noise + JITTER) * np.eye(len(X))
    cross, inverse = covariance(new, X), np.linalg.inv(gram)
    return (
        mean(new) + cross @ inverse @ (scores - mean(X)),
        covariance(new, new) - cross @ inverse @ cross.T,
    )


# ---- against references --------------------------------------------------------------------


@priors
def test_the_posterior_is_the_textbooks(prior):
    X, scores = data()
    new, _ = data(5, seed=1)
    model = ClosedFormGP(X, scores, KERNEL, prior)
    mean, covariance = textbook(X, scores, KERNEL, prior, new)
    with torch.no_grad():
        single_mean, single_variance = model.mean_and_variance(torch.as_tensor(new))
        joint = model.posterior(torch.as_tensor(new)).distribution
    np.testing.assert_allclose(single_mean, mean, atol=1e-9)
    np.testing.assert_allclose(single_variance, np.diag(covariance), atol=1e-9)
    np.testing.assert_allclose(joint.mean, mean, atol=1e-9)
    np.testing.assert_allclose(joint.covariance_matrix, covariance, atol=1e-8)


@priors
def test_log_densities_are_those_of_each_score_given_the_ones_before(prior):
    X, scores = data()
    model = ClosedFormGP(X, scores, KERNEL, prior)
    expected = []
    for i in range(len(X)):
        mean, covariance = textbook(X[:i], scores[:i], KERNEL, prior, X[i : i + 1])
        deviation = np.sqrt(covariance[0, 0] + KERNEL.noise + JITTER)
        expected.append(norm.logpdf(scores[i], mean[0], deviation))
    np.testing.assert_allclose(model.log_densities, expected, atol=1e-8)


@priors
def test_log_densities_sum_to_the_log_evidence(prior):
    X, scores = data()
    mean, covariance = textbook(X[:0], scores[:0], KERNEL, prior, X)
    covariance += (KERNEL.noise + JITTER) * np.eye(len(X))
    evidence = multivariate_normal(mean, covariance).logpdf(scores)
    assert ClosedFormGP(X, scores, KERNEL, prior).log_densities.sum() == pytest.approx(
        evidence, abs=1e-8
    )


class Exact(gpytorch.models.ExactGP):
    def __init__(self, X, y, likelihood):
        super().__init__(X, y, likelihood)
        self.mean = gpytorch.means.ZeroMean()
        matern = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(2.5, ard_num_dims=2))
        matern.outputscale = KERNEL.signal
        matern.base_kernel.lengthscale = torch.as_tensor(KERNEL.lengthscales)
        constant = gpytorch.kernels.ConstantKernel()
        constant.constant = torch.tensor(KERNEL.constant)
        self.covariance = matern + constant

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean(x), self.covariance(x))


def test_without_a_prior_it_is_gpytorchs_exact_gp():
    X, scores = (torch.as_tensor(array) for array in data())
    new = torch.as_tensor(data(5, seed=1)[0])
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    likelihood.noise = KERNEL.noise
    theirs = Exact(X, scores, likelihood).double().eval()
    likelihood.eval()
    ours = ClosedFormGP(X.numpy(), scores.numpy(), KERNEL).posterior(new)
    with torch.no_grad():
        expected = theirs(new)
        torch.testing.assert_close(ours.mean.squeeze(-1), expected.mean, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.variance.squeeze(-1), expected.variance, atol=1e-5, rtol=0)


# ---- BoTorch's side ------------------------------------------------------------------------


@priors
@pytest.mark.parametrize("shape", [(1, 2), (3, 2), (5, 1, 2), (5, 3, 2), (2, 4, 3, 2)])
def test_posteriors_have_botorchs_shapes(prior, shape):
    model = ClosedFormGP(*data(), KERNEL, prior)
    X = torch.as_tensor(np.random.default_rng(2).random(shape))
    with torch.no_grad():
        posterior = model.posterior(X)
        assert posterior.mean.shape == posterior.variance.shape == (*shape[:-1], 1)
        assert posterior.rsample(torch.Size([7])).shape == (7, *shape[:-1], 1)
        covariance = posterior.distribution.covariance_matrix
        assert covariance.shape == (*shape[:-1], shape[-2])
        assert torch.linalg.eigvalsh(covariance).min() > 0
        mean, variance = model.mean_and_variance(X)
    torch.testing.assert_close(posterior.mean.squeeze(-1), mean)
    torch.testing.assert_close(posterior.variance.squeeze(-1), variance, atol=1e-8, rtol=1e-6)
    assert model.num_outputs == 1
    assert model.batch_shape == torch.Size([])


@pytest.mark.parametrize("q", [1, 3])
def test_observation_noise_is_added_to_the_variance(q):
    model = ClosedFormGP(*data(), KERNEL, PRIOR)
    X = torch.as_tensor(np.random.default_rng(2).random((4, q, 2)))
    with torch.no_grad():
        clean = model.posterior(X).variance
        noisy = model.posterior(X, observation_noise=True).variance
        given = model.posterior(X, observation_noise=torch.full((4, q, 1), 0.5)).variance
    torch.testing.assert_close(noisy, clean + KERNEL.noise)
    torch.testing.assert_close(given, clean + 0.5)


def q_log_ei(model: ClosedFormGP) -> qLogExpectedImprovement:
    sampler = SobolQMCNormalSampler(torch.Size([256]), seed=0)
    return qLogExpectedImprovement(model, best_f=model.incumbent, sampler=sampler)


def test_parallel_expected_improvement_runs():
    model = ClosedFormGP(*data(), KERNEL, PRIOR)
    X = torch.as_tensor(np.random.default_rng(2).random((4, 3, 2)))
    with torch.no_grad():
        together = q_log_ei(model)(X)
        alone = torch.stack(
            [LogExpectedImprovement(model, model.incumbent)(x[:, None]) for x in X]
        )
    assert together.shape == (4,)
    # Three points improve at least as much as the best of them; smoothing and sampling blur it.
    assert (together > alone.max(dim=1).values - 0.2).all()


@priors
def test_the_gradient_of_single_moments_agrees_with_finite_differences(prior):
    model = ClosedFormGP(*data(), KERNEL, prior)
    X = torch.as_tensor(np.random.default_rng(2).random((4, 1, 2))).requires_grad_()
    assert torch.autograd.gradcheck(model.mean_and_variance, (X,))


def test_the_gradient_of_the_joint_covariance_agrees_with_finite_differences():
    model = ClosedFormGP(*data(), KERNEL, PRIOR)
    X = torch.as_tensor(np.random.default_rng(2).random((3, 2))).requires_grad_()
    weights = torch.as_tensor(np.random.default_rng(3).random((3, 3)))

    def weighted(points):
        return (model.posterior(points).distribution.covariance_matrix * weights).sum()

    assert torch.autograd.gradcheck(weighted, (X,))


# ---- what a surrogate uses ------------------------------------------------------------------


def moments(model: ClosedFormGP, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        mean, variance = model.mean_and_variance(torch.as_tensor(X))
    return mean.numpy(), variance.numpy()


@priors
def test_conditioning_on_means_keeps_means_and_shrinks_variances(prior):
    model = ClosedFormGP(*data(), KERNEL, prior)
    pending, elsewhere = data(2, seed=1)[0], data(50, seed=2)[0]
    after = model.condition_on_means(pending)
    (mean_before, variance_before), (mean_after, variance_after) = (
        moments(model, elsewhere),
        moments(after, elsewhere),
    )
    np.testing.assert_allclose(mean_after, mean_before, atol=1e-6)
    assert (variance_after <= variance_before + 1e-9).all()
    at_pending = moments(after, pending)[1]
    assert (at_pending <= KERNEL.noise).all()
    assert (at_pending < 0.5 * moments(model, pending)[1]).all()


def test_the_incumbent_is_the_best_mean_at_a_trial():
    X, scores = data()
    noisy = Kernel(KERNEL.lengthscales, KERNEL.signal, 0.5, KERNEL.constant)
    model = ClosedFormGP(X, scores, noisy)
    assert model.incumbent == pytest.approx(moments(model, X)[0].max())
    assert model.incumbent < scores.max()


@priors
def test_repeated_trials_have_finite_predictions(prior):
    X = np.repeat(data(3)[0], 40, axis=0)
    scores = np.random.default_rng(1).standard_normal(len(X))
    exact = Kernel(np.array([50.0, 50.0]), signal=20.0, noise=1e-5, constant=1.0)
    model = ClosedFormGP(X, scores, exact, prior)
    mean, variance = moments(model, X)
    assert np.isfinite(model.log_densities.sum())
    assert np.isfinite(mean).all()
    assert (variance > 0).all()


@pytest.mark.parametrize("task", [0, 1, 2])
def test_the_past_task_that_the_target_equals_takes_the_weight(task):
    X = np.random.default_rng(0).random((20, 2))
    scores = PRIOR.past.predict(X)[:, task]
    quiet = Kernel(KERNEL.lengthscales, signal=0.01, noise=1e-4, constant=0.01)
    weights = ClosedFormGP(X, scores, quiet, PRIOR).task_weights
    assert weights[task] == pytest.approx(1.0, abs=0.1)
    assert np.abs(np.delete(weights, task)).max() < 0.1


def test_what_was_expected_leaves_the_weights_as_they_were():
    X, _ = data()
    model = ClosedFormGP(X, PRIOR.past.predict(X) @ RHO, KERNEL, PRIOR)
    np.testing.assert_allclose(model.task_weights, RHO)


def test_without_a_prior_there_are_no_weights():
    assert ClosedFormGP(*data(), KERNEL).task_weights.shape == (0,)
