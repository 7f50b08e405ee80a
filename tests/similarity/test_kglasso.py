"""The kernel group lasso: a plain reference solver, and planted meta-features recovered."""

import numpy as np
import pytest
from scipy.optimize import brentq

from metahpo.similarity import KGLasso
from metahpo.similarity.group_lasso import solve, strongest_penalty
from metahpo.similarity.kglasso import FeatureKernel
from metahpo.similarity.regularisation_path import leave_one_out_errors, regularisation_path

TASKS, FEATURES, CONFIGURATIONS = 100, 30, 20
SHAPES = (
    lambda x: np.sin(2.0 * x),
    lambda x: x**2,
    np.tanh,
    np.abs,
    lambda x: np.exp(-(x**2)),
)


def planted(seed):
    """Tasks whose performance depends on five of their meta-features, none of them linearly."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(TASKS, FEATURES))
    chosen = rng.choice(FEATURES, len(SHAPES), replace=False)
    performance = 0.5 * rng.normal(size=(TASKS, CONFIGURATIONS))
    for shape, column in zip(SHAPES, chosen, strict=True):
        effect = shape(table[:, column])
        effect = (effect - effect.mean()) / effect.std()
        performance += np.outer(effect, rng.normal(size=CONFIGURATIONS)) / np.sqrt(len(SHAPES))
    past = [{f"f{i}": value for i, value in enumerate(row)} for row in table]
    return past, performance, {f"f{i}" for i in chosen}


def small(seed):
    rng = np.random.default_rng(seed)
    kernels = np.stack([FeatureKernel(rng.normal(size=12)).gram for _ in range(5)])
    Y = rng.normal(size=(12, 3))
    return kernels, Y - Y.mean(axis=0)


def objective(kernels, Y, A, penalty):
    residual = Y - np.matmul(kernels, A).sum(axis=0)
    return 0.5 * (residual**2).sum() + penalty * np.sqrt((A**2).sum(axis=(1, 2))).sum()


def reference(kernels, Y, penalty):
    """Block coordinate descent, each block solved exactly by a root search for its norm."""
    A = np.zeros((len(kernels), *Y.shape))
    spectra = [np.linalg.eigh(kernel) for kernel in kernels]
    for _ in range(20_000):
        before = A.copy()
        for p, (values, vectors) in enumerate(spectra):
            others = [q for q in range(len(kernels)) if q != p]
            residual = Y - sum(kernels[q] @ A[q] for q in others)
            target = values[:, None] * (vectors.T @ residual)
            if np.linalg.norm(target) <= penalty:
                A[p] = 0.0
                continue

            def gap(norm, values=values, target=target):
                return np.linalg.norm(target / (values[:, None] ** 2 * norm + penalty)) - 1.0

            high = 1.0
            while gap(high) > 0:
                high *= 2.0
            norm = brentq(gap, 0.0, high, xtol=1e-15, rtol=1e-14)
            A[p] = vectors @ (target / (values[:, None] ** 2 + penalty / norm))
        if np.abs(A - before).max() < 1e-12:
            return A
    raise AssertionError("the reference did not converge")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_fista_agrees_with_block_coordinate_descent(seed, share):
    kernels, Y = small(seed)
    penalty = share * strongest_penalty(kernels, Y)
    slow = reference(kernels, Y, penalty)
    fast = solve(kernels, Y, penalty, tolerance=1e-12, maximum_iterations=100_000)
    best = objective(kernels, Y, slow, penalty)
    assert objective(kernels, Y, fast, penalty) == pytest.approx(best, abs=1e-6)
    np.testing.assert_allclose(fast, slow, atol=1e-6)
    np.testing.assert_array_equal((fast == 0).all(axis=(1, 2)), (slow == 0).all(axis=(1, 2)))


def test_at_the_strongest_penalty_no_group_is_selected():
    kernels, Y = small(0)
    strongest = strongest_penalty(kernels, Y)
    assert not solve(kernels, Y, 1.0001 * strongest).any()
    assert solve(kernels, Y, 0.9 * strongest).any()


def test_closed_form_leave_one_out_errors_match_refitting_without_each_task():
    # The closed form is exact except for the centring, hence the tolerance.
    rng = np.random.default_rng(0)
    kernel = FeatureKernel(rng.normal(size=30)).gram
    Y = rng.normal(size=(30, 2))
    Y -= Y.mean(axis=0)
    errors, ridge = leave_one_out_errors(kernel, Y)
    plain = []
    for i in range(30):
        rest = np.delete(np.arange(30), i)
        gram = kernel[np.ix_(rest, rest)]
        A = np.linalg.solve(gram + ridge * np.eye(29), Y[rest] - Y[rest].mean(axis=0))
        plain.append(((Y[i] - Y[rest].mean(axis=0) - kernel[i, rest] @ A) ** 2).sum())
    np.testing.assert_allclose(errors, plain, rtol=0.1)


def test_planted_metafeatures_are_recovered():
    # All ten seeds pass on the machines tried; one may fail.
    recovered = 0
    for seed in range(10):
        past, performance, truth = planted(seed)
        selected = set(KGLasso().fit(past, performance).importance)
        recovered += truth <= selected and len(selected - truth) <= 2
    assert recovered >= 9


def test_predictions_for_new_tasks_beat_the_mean_of_the_past_ones():
    past, performance, _ = planted(0)
    model = KGLasso().fit(past[:80], performance[:80])
    weights = np.array([model.weights(task) for task in past[80:]])
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    left = ((performance[80:] - weights @ performance[:80]) ** 2).sum()
    assert left < 0.6 * ((performance[80:] - performance[:80].mean(axis=0)) ** 2).sum()


def test_on_pure_noise_at_most_three_of_ten_metafeatures_are_selected():
    # The selection uses all tasks, so that chance admits one now and then: 2 of 10 here.
    rng = np.random.default_rng(0)
    kernels = np.stack([FeatureKernel(rng.normal(size=40)).gram for _ in range(10)])
    Y = rng.normal(size=(40, 10))
    path = regularisation_path(kernels, Y - Y.mean(axis=0))
    assert (path.norms[path.best()] > 0).sum() <= 3


@pytest.mark.parametrize(
    ("past", "performance"),
    [
        ([{}, {}, {}], np.eye(3)),
        ([{"a": 1.0}], np.ones((1, 4))),
        ([{"a": 1.0}, {"a": 2.0}, {"a": float("nan")}], np.ones((3, 4))),
        ([{"a": float("nan")}] * 4, np.eye(4)),
    ],
    ids=["not described", "one task", "equal performance", "NaN"],
)
def test_with_nothing_to_learn_no_metafeature_is_selected(past, performance):
    model = KGLasso().fit(past, performance)
    np.testing.assert_allclose(model.weights({"a": 1.5}), 1.0 / len(past))
    assert model.importance == {}
