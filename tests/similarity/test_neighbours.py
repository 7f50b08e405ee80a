"""Weights by distances between meta-features."""

import numpy as np
import pytest

from metahpo.similarity import Neighbours


def test_only_the_k_nearest_tasks_have_weight():
    past = [{"a": value} for value in (0.0, 1.0, 2.0, 10.0)]
    weights = Neighbours(2).fit(past, np.eye(4)).weights({"a": 0.4})
    np.testing.assert_allclose(weights, [0.5, 0.5, 0.0, 0.0])


def test_shrinkage_leaves_every_task_some_weight():
    past = [{"a": value} for value in (0.0, 1.0, 2.0, 10.0)]
    weights = Neighbours(2, shrinkage=0.4).fit(past, np.eye(4)).weights({"a": 0.4})
    np.testing.assert_allclose(weights, [0.4, 0.4, 0.1, 0.1])


def test_a_k_below_one_is_refused():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        Neighbours(0)
