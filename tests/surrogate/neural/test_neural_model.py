"""The neural process as a BoTorch model of one study."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.acquisition.logei import qLogExpectedImprovement
from botorch.optim import optimize_acqf
from botorch.sampling.get_sampler import get_sampler
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo.suggest.acquisition import LEAST_NEW, NEAR, BarLogEI
from metahpo.surrogate.networks.bar_posterior import BarPosterior
from metahpo.surrogate.neural.neural_model import NeuralModel, encode_past, points_of_features
from metahpo.surrogate.neural.neural_process import Architecture, NeuralProcess
from metahpo.tasks.alignment import AlignedTask
from metahpo.tasks.space import Condition, Space

SPACE = Space(
    {
        "learning_rate": FloatDistribution(1e-5, 1.0, log=True),
        "optimizer": CategoricalDistribution(("sgd", "adam", "rmsprop")),
        "momentum": FloatDistribution(0.0, 1.0),
        "layers": IntDistribution(1, 5),
    },
    {"momentum": Condition("optimizer", choices=("sgd",))},
)
SMALL = Architecture(width=16, heads=2, layers=2, past_layers=1, latents=2, bars=20)


def network() -> NeuralProcess:
    torch.manual_seed(0)
    made = NeuralProcess(SMALL).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    return made


NETWORK = network()


def drawn(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return SPACE.activate(SPACE.snap(rng.random((count, len(SPACE)))))


def past_task(name: str, count: int, seed: int) -> AlignedTask:
    points = drawn(count, seed)
    shared = np.ones(len(SPACE), bool)
    if seed % 2:
        points[:, 3], shared[3] = np.nan, False
    values = np.random.default_rng(seed).standard_normal(count)
    return AlignedTask(name, points, values, shared, 1.0)


TASKS = [past_task("a", 12, 1), past_task("b", 30, 2), past_task("c", 5, 3)]


def model(trials: int = 6, past: bool = True) -> NeuralModel:
    values = np.random.default_rng(9).standard_normal(trials) + 5.0
    encoded = encode_past(NETWORK, TASKS, SPACE) if past else None
    return NeuralModel(NETWORK, SPACE, drawn(trials, 7), values, encoded)


def features(count: int, seed: int = 5) -> torch.Tensor:
    return torch.from_numpy(SPACE.features(drawn(count, seed)))


def test_features_lead_back_to_their_points() -> None:
    points = drawn(50)
    again = points_of_features(SPACE, torch.from_numpy(SPACE.features(points)))
    assert np.array_equal(np.isnan(points), again.isnan().numpy())
    assert np.allclose(points, again.numpy(), equal_nan=True)


@pytest.mark.parametrize("shape", [(1,), (7, 1), (2, 3, 4)])
def test_posteriors_have_botorchs_shapes(shape: tuple[int, ...]) -> None:
    X = features(int(np.prod(shape))).view(*shape, -1)
    posterior = model().posterior(X)
    assert isinstance(posterior, BarPosterior)
    assert posterior.mean.shape == posterior.variance.shape == (*shape, 1)
    assert posterior.rsample(torch.Size([5])).shape == (5, *shape, 1)
    assert posterior.quantile(torch.tensor([0.1, 0.9])).shape == (2, *shape, 1)
    assert posterior.density(posterior.mean).shape == (*shape, 1)
    assert bool((posterior.variance > 0).all())
    one = model().posterior(X[..., :1, :])
    assert torch.allclose(one.mean, posterior.mean[..., :1, :], atol=1e-5)


def test_samples_have_the_posteriors_moments() -> None:
    """20,000 samples: five standard errors, false once in a million."""
    torch.manual_seed(1)
    posterior = model().posterior(features(3)[:, None])
    samples = posterior.rsample(torch.Size([20_000]))
    errors = (posterior.variance / 20_000).sqrt()
    assert bool(((samples.mean(0) - posterior.mean).abs() < 5 * errors).all())
    assert torch.allclose(samples.var(0), posterior.variance, rtol=0.1)


def test_values_in_another_unit_give_the_same_scores_and_the_same_answer() -> None:
    """As long as no past says what the unit is."""
    X = features(4)[:, None]
    values = np.array([1.0, 2.0, 4.0])
    small, large = (
        NeuralModel(NETWORK, SPACE, drawn(3), factor * values + factor, None)
        for factor in (1.0, 1e6)
    )
    assert torch.allclose(small.posterior(X).mean, large.posterior(X).mean, atol=1e-5)
    assert large.warp.unit == pytest.approx(1e6 * small.warp.unit)
    assert np.allclose(large.warp.scores(1e6 * values + 1e6), large.scores[0], atol=1e-6)


def test_past_tasks_are_read_once_and_their_padding_says_nothing() -> None:
    """Each task alone, without padding, gives the tokens it gives among the others."""
    together = encode_past(NETWORK, TASKS, SPACE)
    assert together is not None
    tokens = together.tokens.content.view(3, SMALL.latents, -1)
    places = together.tokens.places.view(3, SMALL.latents, -1)
    for row, task in enumerate(TASKS):
        alone = encode_past(NETWORK, [task], SPACE)
        assert alone is not None
        assert torch.allclose(tokens[row], alone.tokens.content[0], atol=1e-5)
        assert torch.allclose(places[row], alone.tokens.places[0], atol=1e-5)
    assert encode_past(NETWORK, [], SPACE) is None
    X = features(3)[:, None]
    assert not torch.allclose(model().posterior(X).mean, model(past=False).posterior(X).mean)


@pytest.mark.parametrize("trials", [0, 1, 2, 50])
@pytest.mark.parametrize("past", [True, False])
def test_any_number_of_trials_is_taken(trials: int, past: bool) -> None:
    answer = model(trials, past).posterior(features(3)[:, None])
    assert bool(answer.mean.isfinite().all())


def test_a_network_that_reads_no_past_is_told_none() -> None:
    blind = NeuralProcess(replace(SMALL, past=False))
    assert encode_past(blind, TASKS, SPACE) is None


def test_botorchs_log_ei_is_that_of_the_moments_and_leaves_the_network_alone() -> None:
    surrogate = model()
    X = features(5)[:, None].requires_grad_()
    acquisition = LogExpectedImprovement(surrogate, best_f=surrogate.incumbent)
    values = acquisition(X)
    values.sum().backward()
    posterior = surrogate.posterior(X)
    normal = torch.distributions.Normal(
        posterior.mean[:, 0, 0], posterior.variance[:, 0, 0].sqrt()
    )
    best = torch.tensor(surrogate.incumbent).double()
    z = (normal.mean - best) / normal.stddev
    density = torch.exp(-0.5 * z**2) / (2 * torch.pi) ** 0.5
    reference = normal.stddev * (density + z * torch.special.ndtr(z))
    assert torch.allclose(values, reference.log(), atol=1e-4)
    assert X.grad is not None
    assert bool(X.grad.isfinite().all())
    assert bool((X.grad[..., 0] != 0).any())
    assert next(NETWORK.parameters()).dtype == torch.float32


def test_expected_improvement_in_closed_form_is_the_samples() -> None:
    """40,000 quasi-random samples; differences are some thousandths."""
    surrogate = model()
    X = features(4)
    closed = surrogate.expected_improvement(X)
    chances = (torch.arange(40_000).double() + 0.5) / 40_000
    samples = surrogate.answer(X).quantile(chances[:, None])
    sampled = (samples - surrogate.incumbent).clamp_min(0).mean(0)
    assert torch.allclose(closed, sampled, atol=2e-3)


def test_monte_carlo_acquisition_functions_optimise_it() -> None:
    space = Space({name: FloatDistribution(0.0, 1.0) for name in ("a", "b")})
    rng = np.random.default_rng(0)
    surrogate = NeuralModel(NETWORK, space, rng.random((6, 2)), rng.random(6))
    posterior = surrogate.posterior(torch.rand(3, 2, 2).double())
    sampler = get_sampler(posterior, torch.Size([16]), seed=0)
    acquisition = qLogExpectedImprovement(surrogate, surrogate.incumbent, sampler)
    found, value = optimize_acqf(
        acquisition,
        bounds=torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double(),
        q=2,
        num_restarts=1,
        raw_samples=8,
        options={"maxiter": 3, "seed": 0},
    )
    assert found.shape == (2, 2)
    assert bool(value.isfinite())


# ---- running trials ------------------------------------------------------------------------


def test_believed_trials_are_trials_with_their_means() -> None:
    surrogate, running = model(), features(2, seed=11)
    X = features(3)[:, None]
    believed = surrogate.believing(running.numpy())
    means = surrogate.answer(running).mean
    assert believed.batch_shape == torch.Size([])
    assert believed.scores.shape == (1, 8)
    assert torch.allclose(believed.scores[0, 6:].double(), means, atol=1e-6)
    assert not torch.allclose(believed.posterior(X).mean, surrogate.posterior(X).mean)


def test_fantasies_are_a_batch_of_models_each_after_one_draw() -> None:
    surrogate, running = model(), features(2, seed=11)
    many = surrogate.fantasised(running.numpy(), 4, seed=3)
    assert many.batch_shape == torch.Size([4])
    # BoTorch's convention: batch_shape x q x p, whose last batch dimension is the models'.
    X = features(5)
    answer = many.posterior(X[:, None, None]).mean
    assert answer.shape == (5, 4, 1, 1)
    assert many.posterior(X).mean.shape == (4, 5, 1)
    again = surrogate.fantasised(running.numpy(), 4, seed=3)
    assert torch.equal(again.scores, many.scores)
    assert len(many.scores[:, 6].unique()) == 4
    # The first fantasy as a study of its own.
    alone = surrogate._with(many.points[:1, 6:], many.scores[:1, 6:], torch.Size([]))
    assert torch.allclose(alone.posterior(X[:, None]).mean, answer[:, 0], atol=1e-5)


def test_fantasies_have_the_spread_of_the_posterior() -> None:
    """2,000 draws of one running trial: its mean within five standard errors."""
    surrogate, running = model(), features(1, seed=11)
    draws = surrogate.fantasised(running.numpy(), 2000).scores[:, 6].double()
    mean, variance = surrogate.mean_and_variance(running)
    assert abs(float(draws.mean() - mean[0])) < 5 * float(variance[0] / 2000) ** 0.5
    assert float(draws.var()) == pytest.approx(float(variance[0]), rel=0.25)


# ---- as an acquisition function ------------------------------------------------------------


def test_what_was_tried_is_not_worth_trying_again():
    """A network stays unsure of what it has seen; improvement alone would repeat the best."""
    told = model()
    acquisition = BarLogEI(told)
    tried = told.observed_features
    points = points_of_features(SPACE, tried).numpy()
    assert np.allclose(points, told.points[0].numpy(), equal_nan=True, atol=1e-6)
    plain = told.expected_improvement(tried).log()
    torch.testing.assert_close(acquisition(tried[:, None]), plain + np.log(LEAST_NEW))
    aside = tried.clone()
    for distance, share in ((NEAR, 1 - np.exp(-0.5)), (10 * NEAR, 1.0)):
        aside[:, 0] = tried[:, 0] + torch.where(tried[:, 0] < 0.5, distance, -distance)
        seen = (aside[:, None] - tried).square().sum(-1).sqrt().amin(-1)
        # Others may lie nearer still.
        alone = seen >= distance - 1e-9
        assert alone.any()
        expected = told.expected_improvement(aside).log() + np.log(share)
        torch.testing.assert_close(acquisition(aside[:, None])[alone], expected[alone])


def test_nor_is_what_is_running():
    told = model()
    running = torch.from_numpy(SPACE.features(drawn(2, seed=5)))
    believed = told.believing(running.numpy())
    assert len(believed.observed_features) == len(told.observed_features) + 2
    plain = believed.expected_improvement(running).log()
    torch.testing.assert_close(BarLogEI(believed)(running[:, None]), plain + np.log(LEAST_NEW))


def test_before_any_trial_all_is_new():
    X = torch.from_numpy(SPACE.features(drawn(3)))
    told = model(trials=0)
    torch.testing.assert_close(BarLogEI(told)(X[:, None]), told.expected_improvement(X).log())
