"""The greedy portfolio against exhaustive search, and what it is chosen by."""

import math
from itertools import combinations

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from metahpo.settings import PortfolioSettings
from metahpo.suggest.portfolio import CandidateScorer, greedy_portfolio
from metahpo.surrogate.features import FeatureMap
from metahpo.tasks.alignment import AlignedTask, thinned
from metahpo.tasks.space import Space


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


def test_near_copies_of_what_was_chosen_are_left_out():
    """The second best by score lies beside the best."""
    scores = np.array([[1.0], [0.99], [0.5], [0.4]])
    features = np.array([[0.5, 0.5], [0.52, 0.51], [0.9, 0.1], [0.9, 0.131]])
    weights = np.ones(1)
    assert greedy_portfolio(scores, weights, 3, features=features, apart=0.03) == [0, 2, 3]
    assert greedy_portfolio(scores, weights, 4, features=features, apart=0.04) == [0, 2]
    assert greedy_portfolio(scores, weights, 4, features=features) == [0, 1, 2, 3]


# ---- how candidates are expected to do on past tasks ---------------------------------------

SETTINGS = PortfolioSettings()
LINE = FeatureMap(Space({"x": FloatDistribution(0.0, 1.0)}))
GRID = np.linspace(0.0, 1.0, 21)[:, None]


def past_task(values: np.ndarray, points: np.ndarray = GRID) -> AlignedTask:
    return AlignedTask("past", points, values, np.array([True]), 1.0)


def test_scores_are_the_values_between_the_median_and_the_best():
    values = 100.0 + 5.0 * GRID[:, 0]
    scores = CandidateScorer([past_task(values)], LINE, SETTINGS)(GRID)[:, 0]
    # Fully grown trees repeat the trials that they were fitted to.
    np.testing.assert_allclose(scores, 2.0 * GRID[:, 0] - 1.0, atol=1e-9)


def test_by_how_much_a_trial_failed_does_not_matter():
    values = -((GRID[:, 0] - 0.3) ** 2)
    failed = values.copy()
    failed[-3:] = -1e30
    worse = values.copy()
    worse[-3:] = -1e300
    scores = CandidateScorer([past_task(failed), past_task(worse)], LINE, SETTINGS)(GRID)
    np.testing.assert_array_equal(scores[:, 0], scores[:, 1])
    assert scores.min() == SETTINGS.worst_score
    assert scores.max() == pytest.approx(1.0)


def test_the_unit_of_the_values_does_not_matter():
    values = np.sin(7.0 * GRID[:, 0])
    scores = CandidateScorer([past_task(values), past_task(1e-6 * values + 3.0)], LINE, SETTINGS)(
        GRID
    )
    np.testing.assert_allclose(scores[:, 0], scores[:, 1], atol=1e-6)


@pytest.mark.parametrize("values", [np.zeros(21), np.r_[np.zeros(15), -np.ones(6)]])
def test_where_most_trials_are_the_best_the_others_are_the_worst(values):
    scores = CandidateScorer([past_task(values)], LINE, SETTINGS)(GRID)[:, 0]
    np.testing.assert_allclose(scores, np.where(values < 0, SETTINGS.worst_score, 0.0), atol=1e-9)


def test_no_score_lies_below_the_worst_one():
    values = -np.geomspace(1.0, 1e6, 21)
    for worst in (-1.0, -3.0):
        settings = PortfolioSettings(worst_score=worst)
        scores = CandidateScorer([past_task(values)], LINE, settings)(GRID)
        assert scores.min() == worst


def test_the_best_region_of_a_long_past_task_survives_its_thinning():
    points = np.random.default_rng(0).random((5000, 1))
    task = thinned(past_task(-((points[:, 0] - 0.3) ** 2), points), np.random.default_rng(0))
    scores = CandidateScorer([task], LINE, SETTINGS)(GRID)
    assert abs(float(GRID[scores[:, 0].argmax(), 0]) - 0.3) <= 0.1


def test_candidates_that_no_past_task_tried_score_within_what_was_observed():
    values = np.sin(7.0 * GRID[:, 0])
    between = GRID[:-1] + 0.02
    scores = CandidateScorer([past_task(values)], LINE, SETTINGS)(between)
    assert SETTINGS.worst_score <= scores.min()
    assert scores.max() <= 1.0


def test_the_seed_decides_the_trees():
    task, between = past_task(np.sin(7.0 * GRID[:, 0])), GRID[:-1] + 0.02
    first, second, other = (
        CandidateScorer([task], LINE, SETTINGS, seed=seed)(between) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_many_past_tasks_share_the_trees():
    """One extremely randomised tree cuts at few places; six hundred average to a smooth line."""
    task, line = past_task(GRID[:, 0]), np.linspace(0.0, 1.0, 500)[:, None]
    settings = PortfolioSettings(trees=40, trees_per_task=5)
    alone = CandidateScorer([task], LINE, settings)(line)
    among_many = CandidateScorer([task] * 20, LINE, settings)(line)
    assert len(np.unique(alone[:, 0])) > 2 * len(np.unique(among_many[:, 0]))
    np.testing.assert_array_equal(among_many, among_many[:, :1].repeat(20, axis=1))
