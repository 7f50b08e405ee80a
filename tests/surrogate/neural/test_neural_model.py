"""The neural process of one study, as a BoTorch model and as a surrogate."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.acquisition.logei import qLogExpectedImprovement
from botorch.optim import optimize_acqf
from botorch.sampling.get_sampler import get_sampler
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo.settings import SearchSettings
from metahpo.surrogate.features import FeatureMap
from metahpo.surrogate.networks.bar_posterior import BarPosterior
from metahpo.surrogate.neural.neural_model import NeuralModel, encode_past
from metahpo.surrogate.neural.neural_process import Architecture, NeuralProcess
from metahpo.surrogate.neural.neural_surrogate import LEAST_IMPROVEMENT, NeuralSurrogate
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


def queries(count: int, seed: int = 5) -> torch.Tensor:
    return torch.from_numpy(drawn(count, seed))


@pytest.mark.parametrize("shape", [(1,), (7, 1), (2, 3, 4)])
def test_posteriors_have_botorchs_shapes(shape: tuple[int, ...]) -> None:
    X = queries(int(np.prod(shape))).view(*shape, -1)
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
    posterior = model().posterior(queries(3)[:, None])
    samples = posterior.rsample(torch.Size([20_000]))
    errors = (posterior.variance / 20_000).sqrt()
    assert bool(((samples.mean(0) - posterior.mean).abs() < 5 * errors).all())
    assert torch.allclose(samples.var(0), posterior.variance, rtol=0.1)


def test_values_in_another_unit_give_the_same_scores_and_the_same_posterior() -> None:
    """As long as no past task shows what the unit is."""
    X = queries(4)[:, None]
    values = np.array([1.0, 2.0, 4.0])
    small, large = (
        NeuralModel(NETWORK, SPACE, drawn(3), factor * values + factor, None)
        for factor in (1.0, 1e6)
    )
    assert torch.allclose(small.posterior(X).mean, large.posterior(X).mean, atol=1e-5)
    warp = large.scale.warp
    assert warp.unit == pytest.approx(1e6 * small.scale.warp.unit)
    assert np.allclose(warp.scores(1e6 * values + 1e6), large.scores, atol=1e-6)


def test_past_tasks_are_encoded_each_on_its_own_whatever_their_padding() -> None:
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
    X = queries(3)[:, None]
    assert not torch.allclose(model().posterior(X).mean, model(past=False).posterior(X).mean)


@pytest.mark.parametrize("trials", [0, 1, 2, 50])
@pytest.mark.parametrize("past", [True, False])
def test_any_number_of_trials_can_be_conditioned_on(trials: int, past: bool) -> None:
    posterior = model(trials, past).posterior(queries(3)[:, None])
    assert bool(posterior.mean.isfinite().all())


def test_a_network_that_reads_no_past_has_none_encoded() -> None:
    blind = NeuralProcess(replace(SMALL, past=False))
    assert encode_past(blind, TASKS, SPACE) is None


def test_leaving_a_past_task_out_is_encoding_the_others() -> None:
    together = encode_past(NETWORK, TASKS, SPACE)
    others = encode_past(NETWORK, [TASKS[0], TASKS[2]], SPACE)
    assert together is not None
    assert others is not None
    left = together.without(1)
    assert left.count == 2
    assert torch.allclose(left.tokens.content, others.tokens.content, atol=1e-5)
    assert torch.allclose(left.tokens.places, others.tokens.places, atol=1e-5)


@pytest.mark.parametrize("past", [True, False])
def test_log_densities_are_those_of_the_posterior_carried_over_to_values(past: bool) -> None:
    """Against the slope of the distribution function, by differences."""
    made, points = model(past=past), drawn(8, seed=5)
    values = np.linspace(3.0, 7.0, 8)
    warp, predictive = made.scale.warp, made.predictive(torch.from_numpy(points))
    step = 1e-4

    def below(values: np.ndarray) -> np.ndarray:
        return predictive.cdf(torch.from_numpy(warp.scores(values))).numpy()

    densities = (below(values + step) - below(values - step)) / (2 * step)
    found = made.log_densities(points, values)
    # A border between bars within a step would show; there is none.
    np.testing.assert_allclose(found, np.log(densities), atol=1e-3)


def test_without_a_unit_no_density_of_a_value_is_known() -> None:
    made = model(trials=1, past=False)
    assert not made.has_unit
    assert np.isnan(made.log_densities(drawn(3), np.zeros(3))).all()
    assert np.isfinite(model(trials=1).log_densities(drawn(3), np.zeros(3))).all()


def test_botorchs_log_ei_is_that_of_the_moments_and_leaves_the_network_alone() -> None:
    made = model()
    X = queries(5)[:, None].requires_grad_()
    acquisition = LogExpectedImprovement(made, best_f=made.incumbent)
    values = acquisition(X)
    values.sum().backward()
    posterior = made.posterior(X)
    normal = torch.distributions.Normal(
        posterior.mean[:, 0, 0], posterior.variance[:, 0, 0].sqrt()
    )
    best = torch.tensor(made.incumbent).double()
    z = (normal.mean - best) / normal.stddev
    density = torch.exp(-0.5 * z**2) / (2 * torch.pi) ** 0.5
    reference = normal.stddev * (density + z * torch.special.ndtr(z))
    assert torch.allclose(values, reference.log(), atol=1e-4)
    assert X.grad is not None
    assert bool(X.grad.isfinite().all())
    assert bool((X.grad[..., 0] != 0).any())
    assert next(NETWORK.parameters()).dtype == torch.float32


def test_monte_carlo_acquisition_functions_optimise_it() -> None:
    space = Space({name: FloatDistribution(0.0, 1.0) for name in ("a", "b")})
    rng = np.random.default_rng(0)
    made = NeuralModel(NETWORK, space, rng.random((6, 2)), rng.random(6))
    posterior = made.posterior(torch.rand(3, 2, 2).double())
    sampler = get_sampler(posterior, torch.Size([16]), seed=0)
    acquisition = qLogExpectedImprovement(made, made.incumbent, sampler)
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


# ---- pending trials ------------------------------------------------------------------------


def test_pending_trials_count_as_trials_with_their_means() -> None:
    made, pending = model(), queries(2, seed=11)
    X = queries(3)[:, None]
    conditioned = made.condition_on_means(pending)
    means = made.predictive(pending).mean
    assert conditioned.batch_shape == torch.Size([])
    assert conditioned.scores.shape == (8,)
    assert torch.allclose(conditioned.scores[6:].double(), means, atol=1e-6)
    assert torch.equal(conditioned.points[6:].nan_to_num(), pending.float().nan_to_num())
    assert not torch.allclose(conditioned.posterior(X).mean, made.posterior(X).mean)
    # The unit is still that of the values.
    assert (conditioned.scale, conditioned.has_unit) == (made.scale, made.has_unit)
    assert made.scores.shape == (6,)


# ---- as a surrogate ------------------------------------------------------------------------

SETTINGS = SearchSettings()
FEATURES = FeatureMap(SPACE)


def surrogate(trials: int = 6, past: bool = True) -> NeuralSurrogate:
    made = model(trials, past)
    return NeuralSurrogate(made, FEATURES, np.zeros(trials), np.full(3, 1 / 3), SETTINGS)


def plain_log_improvement(made: NeuralSurrogate, points: torch.Tensor) -> torch.Tensor:
    """From the bars alone, in values, whatever was tried."""
    expected = made.model.predictive(points).expected_improvement(made.model.incumbent)
    return (expected * made.model.scale.warp.unit).log()


def quantiles(made: NeuralSurrogate, points: torch.Tensor) -> torch.Tensor:
    """40,000 quasi-random samples of the scores at each point; differences are thousandths."""
    chances = (torch.arange(40_000).double() + 0.5) / 40_000
    return made.model.predictive(points).quantile(chances[:, None])


def test_expected_improvement_in_closed_form_is_the_samples() -> None:
    made = surrogate(trials=0)
    # Before any trial all points are new.
    X = queries(4)
    closed = made.improvement(X).log_expected.exp() / made.model.scale.warp.unit
    sampled = (quantiles(made, X) - made.model.incumbent).clamp_min(0).mean(0)
    assert torch.allclose(closed, sampled, atol=2e-3)


@pytest.mark.parametrize("trials", [0, 1, 6])
@pytest.mark.parametrize("past", [True, False])
def test_the_probability_of_improvement_is_the_samples(trials: int, past: bool) -> None:
    made, X = surrogate(trials, past), queries(6)
    probability = made.improvement(X).probability
    sampled = (quantiles(made, X) > made.model.incumbent).double().mean(0)
    assert torch.allclose(probability, sampled, atol=2e-3)


@pytest.mark.parametrize("best", [-20.0, -8.0, 8.0, 20.0])
def test_the_probability_of_improvement_is_a_probability_in_the_tails(best: float) -> None:
    made = surrogate()
    made.model.scores[:] = best
    probability = made.improvement(queries(50)).probability
    assert bool(((probability >= 0.0) & (probability <= 1.0)).all())
    assert bool((probability.round() == (0.0 if best > 0 else 1.0)).all())


def test_where_no_bar_improves_the_logarithm_is_finite() -> None:
    made = surrogate()
    made.model.scores[:] = 1e4
    X = queries(5).requires_grad_()
    found = made.improvement(X).log_expected
    (gradient,) = torch.autograd.grad(found.sum(), X)
    assert bool((found >= np.log(LEAST_IMPROVEMENT * SETTINGS.least_new)).all())
    assert bool(gradient.isfinite().all())


def test_what_was_tried_is_not_worth_trying_again() -> None:
    """A network stays unsure of what it has seen; improvement alone would repeat the best."""
    made = surrogate()
    tried, least, near = made.model.points.double(), SETTINGS.least_new, SETTINGS.near
    assert torch.allclose(tried, queries(6, seed=7), equal_nan=True, atol=1e-6)
    plain = plain_log_improvement(made, tried)
    torch.testing.assert_close(made.improvement(tried).log_expected, plain + np.log(least))
    aside = tried.clone()
    for distance, share in ((near, 1 - np.exp(-0.5)), (10 * near, 1.0)):
        aside[:, 0] = tried[:, 0] + torch.where(tried[:, 0] < 0.5, distance, -distance)
        gaps = FEATURES(aside)[:, None] - FEATURES(tried)
        seen = gaps.square().sum(-1).sqrt().amin(-1)
        # Others may lie nearer still.
        alone = seen >= distance - 1e-9
        assert alone.any()
        expected = plain_log_improvement(made, aside) + np.log(share)
        torch.testing.assert_close(made.improvement(aside).log_expected[alone], expected[alone])


def test_what_is_pending_is_not_worth_trying_again() -> None:
    made, pending = surrogate(), drawn(2, seed=5)
    conditioned = made.condition_on_pending(pending)
    assert len(conditioned.model.points) == len(made.model.points) + 2
    X = torch.from_numpy(pending)
    plain = plain_log_improvement(conditioned, X)
    found = conditioned.improvement(X).log_expected
    torch.testing.assert_close(found, plain + np.log(SETTINGS.least_new))
    assert made.condition_on_pending(pending[:0]) is made


def test_before_any_trial_all_is_new() -> None:
    made, X = surrogate(trials=0), queries(3)
    torch.testing.assert_close(made.improvement(X).log_expected, plain_log_improvement(made, X))


@pytest.mark.parametrize("past", [True, False])
def test_predictions_are_the_moments_of_the_bars_in_values(past: bool) -> None:
    made, points = surrogate(past=past), drawn(5)
    predictive, warp = made.model.predictive(torch.from_numpy(points)), made.model.scale.warp
    mean, deviation = predictive.mean.numpy(), np.sqrt(predictive.variance.numpy())
    found = made.predict(points)
    assert found is not None
    np.testing.assert_allclose(found[0], warp.values(mean))
    low, high = warp.values(mean - deviation), warp.values(mean + deviation)
    np.testing.assert_allclose(found[1], (high - low) / 2)


@pytest.mark.parametrize("trials", [0, 1])
def test_without_a_unit_no_value_is_predicted(trials: int) -> None:
    assert surrogate(trials, past=False).predict(drawn(3)) is None
    assert surrogate(trials, past=True).predict(drawn(3)) is not None


def test_past_tasks_in_the_context_have_all_the_trust() -> None:
    assert surrogate(past=True).trust == 1.0
    assert surrogate(past=False).trust is None


def test_a_network_has_an_effort_of_its_own() -> None:
    assert surrogate().effort == SETTINGS.network_effort
