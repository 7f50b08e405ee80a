"""The greedy portfolio against exhaustive search."""

import math
from itertools import combinations

import numpy as np
import pytest

from metahpo.portfolio import greedy_portfolio


def objective(scores: np.ndarray, weights: np.ndarray, chosen) -> float:
    return float(scores[list(chosen)].max(axis=0) @ weights)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [2, 3])
def test_within_the_bound_of_the_best_portfolio(seed, size):
    rng = np.random.default_rng(seed)
    scores, weights = rng.random((8, 5)) ** 3, rng.dirichlet(np.ones(5))
    chosen = greedy_portfolio(scores, weights, size)
    best = max(objective(scores, weights, c) for c in combinations(range(8), size))
    assert objective(scores, weights, chosen) >= (1 - 1 / math.e) * best


@pytest.mark.parametrize("seed", range(5))
def test_each_choice_is_the_best_addition(seed):
    rng = np.random.default_rng(seed)
    scores, weights = rng.standard_normal((8, 5)), rng.dirichlet(np.ones(5))
    chosen = greedy_portfolio(scores, weights, 4)
    assert chosen[0] == np.argmax(scores @ weights)
    for k in range(4):
        reached = objective(scores, weights, chosen[: k + 1])
        others = set(range(8)) - set(chosen[:k])
        assert reached == max(objective(scores, weights, [*chosen[:k], i]) for i in others)


def test_it_covers_the_tasks_that_are_served_badly():
    # The second best on average does well where the best one does already.
    scores = np.array([[1.0, 0.9, 0.0], [0.9, 0.8, 0.1], [0.0, 0.0, 1.0]])
    assert greedy_portfolio(scores, np.full(3, 1 / 3), 2) == [0, 2]


def test_weights_decide():
    scores = np.eye(3)
    assert greedy_portfolio(scores, np.array([0.2, 0.5, 0.3]), 3) == [1, 2, 0]


def test_size_is_capped_and_nothing_is_chosen_twice():
    scores = np.zeros((3, 2))
    assert sorted(greedy_portfolio(scores, np.full(2, 0.5), 10)) == [0, 1, 2]
    assert greedy_portfolio(scores, np.full(2, 0.5), 0) == []
    assert greedy_portfolio(np.empty((0, 2)), np.full(2, 0.5), 3) == []
