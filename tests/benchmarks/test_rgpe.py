import itertools

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the benchmarks need metahpo[bench]")

import torch

from benchmarks import rgpe


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def line(n: int, seed: int) -> torch.Tensor:
    return torch.rand(n, 1, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def wave(X: torch.Tensor) -> torch.Tensor:
    return torch.sin(6 * X[:, 0])


def test_ranking_losses_count_misordered_pairs():
    rng = np.random.default_rng(0)
    samples, y = rng.normal(size=(3, 4, 6)), rng.normal(size=6)
    found = rgpe.ranking_losses(torch.tensor(samples), torch.tensor(y)).numpy()
    for i, s in itertools.product(range(3), range(4)):
        f = samples[i, s]
        pairs = itertools.product(range(6), repeat=2)
        assert found[i, s] == sum((f[j] < f[k]) != (y[j] < y[k]) for j, k in pairs)


def test_weights_are_shares_of_samples_won_and_ties_go_to_the_study():
    losses = torch.tensor([[0, 5, 5, 1], [3, 5, 0, 1], [4, 5, 4, 1]])
    np.testing.assert_allclose(rgpe.weights_of(losses), [0.25, 0.25, 0.5])


def test_a_useless_past_task_is_dropped():
    # It wins one sample by luck, and its median is beyond what the study's own model ever loses.
    losses = torch.tensor([[0, 90, 90, 90, 90], [10, 11, 12, 10, 11]])
    np.testing.assert_allclose(rgpe.weights_of(losses), [0.0, 1.0])


def test_leave_one_out_predictions_equal_those_from_the_other_trials():
    X = line(8, 1)
    y = wave(X)
    model = rgpe.fit_gp(X, y)
    mean, variance = rgpe.leave_one_out(model)
    kernel, noise = model.covar_module, model.likelihood.noise.item()
    targets = model.train_targets
    with torch.no_grad():
        constant = model.mean_module(X)[0]
        for i in range(8):
            rest = [j for j in range(8) if j != i]
            K = kernel(X[rest], X[rest]).to_dense() + noise * torch.eye(7, dtype=torch.double)
            k = kernel(X[[i]], X[rest]).to_dense()
            solved = torch.linalg.solve(K, k.T)
            expected = constant + (solved.T @ (targets[rest] - constant)).squeeze()
            spread = kernel(X[[i]], X[[i]]).to_dense() - k @ solved
            np.testing.assert_allclose(mean[i], expected, atol=1e-6)
            np.testing.assert_allclose(variance[i], spread.squeeze().clamp_min(1e-10), atol=1e-6)


def test_a_related_past_task_outweighs_an_opposite_one():
    X = line(40, 2)
    past = [rgpe.fit_gp(X, 3 * wave(X) + 5), rgpe.fit_gp(X, -wave(X))]
    seen = line(5, 3)
    model = rgpe.RGPE(past, seen, wave(seen), seed=0)
    assert model.weights.sum() == pytest.approx(1)
    assert model.weights[0] > 0.5
    assert model.weights[1] < 0.05
    posterior = model.posterior(line(20, 4)[:, None])
    assert np.corrcoef(posterior.mean.flatten().detach(), wave(line(20, 4)))[0, 1] > 0.9


def test_few_trials_leave_all_past_tasks_equal():
    X = line(20, 5)
    past = [rgpe.fit_gp(X, wave(X)), rgpe.fit_gp(X, -wave(X))]
    np.testing.assert_allclose(rgpe.RGPE(past, X[:2], wave(X[:2]), 0).weights, [0.5, 0.5])
