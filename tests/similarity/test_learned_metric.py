"""The Siamese network and the rank correlations that it learns."""

import numpy as np

from metahpo.similarity import LearnedMetric
from metahpo.similarity.learned_metric import rank_correlations


def test_the_same_seed_gives_the_same_weights():
    past = [{"a": float(i), "b": float(i % 3)} for i in range(9)]
    performance = np.random.default_rng(0).normal(size=(9, 6))
    first, second = (LearnedMetric(seed=1).fit(past, performance) for _ in range(2))
    np.testing.assert_array_equal(first.weights({"a": 2.5}), second.weights({"a": 2.5}))


def test_rank_correlations_depend_on_the_order_alone():
    performance = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 90.0], [3.0, 2.0, 1.0], [1, 1, 1]])
    expected = [[1, 1, -1, 0], [1, 1, -1, 0], [-1, -1, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(rank_correlations(performance), expected, atol=1e-12)
