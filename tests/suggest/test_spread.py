"""Points that were not tried: far from all others, the first of some, or beside one."""

from dataclasses import replace

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo.settings import DEFAULT_SETTINGS
from metahpo.suggest.cells import cells
from metahpo.suggest.spread import beside, first_untried, spread
from metahpo.surrogate.study_arrays import StudyArrays
from metahpo.tasks.space import Condition, Space
from metahpo.tasks.tried import Tried

SETTINGS = DEFAULT_SETTINGS.search
UNIT = FloatDistribution(0, 1)
LINE = Space({"x": UNIT})
SQUARE = Space({"x": UNIT, "y": UNIT})
MIXED = Space(
    {
        "lr": FloatDistribution(1e-5, 1, log=True),
        "layers": IntDistribution(1, 4),
        "optimizer": CategoricalDistribution(["adam", "sgd", "lion"]),
        "momentum": UNIT,
    },
    {"momentum": Condition("optimizer", choices=("sgd",))},
)


def study(space: Space, taken: np.ndarray) -> StudyArrays:
    return StudyArrays(space, taken, np.zeros(len(taken)), pending=taken[:0], taken=taken)


def existing(space: Space, n: int, seed: int = 0) -> np.ndarray:
    return space.activate(space.snap(np.random.default_rng(seed).random((n, len(space)))))


def assert_exist(space: Space, points: np.ndarray) -> None:
    np.testing.assert_allclose(space.snap(points), points, atol=1e-12)
    np.testing.assert_array_equal(np.isnan(space.activate(points)), np.isnan(points))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Around the torus, coordinate by coordinate."""
    total = 0.0
    for a, b in zip(one, other, strict=True):
        total += min(abs(a - b), 1 - abs(a - b)) ** 2
    return total


# ---- far from all others -------------------------------------------------------------------


def test_the_chosen_points_come_first_and_are_made_up_to_the_count():
    chosen = list(existing(MIXED, 2, seed=1))
    points = spread(
        study(MIXED, existing(MIXED, 5)), chosen, 5, np.random.default_rng(0), SETTINGS
    )
    assert len(points) == 5
    np.testing.assert_array_equal(points[:2], chosen)
    assert_exist(MIXED, np.stack(points))


def test_enough_chosen_points_need_no_others():
    chosen = list(existing(MIXED, 3, seed=1))
    points = spread(
        study(MIXED, existing(MIXED, 5)), chosen, 3, np.random.default_rng(0), SETTINGS
    )
    np.testing.assert_array_equal(points, chosen)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("taken", [1, 2, 9])
def test_the_farthest_of_some_random_candidates_is_taken(seed, taken):
    tried = existing(SQUARE, taken, seed=99)
    (point,) = spread(study(SQUARE, tried), [], 1, np.random.default_rng(seed), SETTINGS)
    candidates = np.random.default_rng(seed).random((SETTINGS.spread_candidates, 2))
    nearest = [min(distance(candidate, other) for other in tried) for candidate in candidates]
    np.testing.assert_array_equal(point, candidates[int(np.argmax(nearest))])


@pytest.mark.parametrize("at", [0.0, 0.1, 0.5, 1.0])
def test_corners_are_not_preferred(at):
    """The farthest place from one point lies half the range away, wherever that point is."""
    many = replace(SETTINGS, spread_candidates=4096)
    (point,) = spread(study(LINE, np.array([[at]])), [], 1, np.random.default_rng(0), many)
    assert distance(point, np.array([at])) == pytest.approx(0.25, abs=1e-3)


def test_later_points_are_far_from_earlier_ones():
    many = replace(SETTINGS, spread_candidates=4096)
    points = spread(study(LINE, np.empty((0, 1))), [], 4, np.random.default_rng(0), many)
    gaps = np.diff(np.sort(np.concatenate(points)))
    assert gaps == pytest.approx([0.25] * 3, abs=0.01)


def test_the_first_point_of_a_study_is_random():
    (point,) = spread(study(SQUARE, np.empty((0, 2))), [], 1, np.random.default_rng(7), SETTINGS)
    np.testing.assert_array_equal(point, np.random.default_rng(7).random((64, 2))[0])


def test_where_a_trial_was_inactive_it_counts_as_halfway():
    space = Space(
        {"c": CategoricalDistribution(["a", "b"]), "x": UNIT}, {"x": Condition("c", ("a",))}
    )
    inactive, halfway = np.array([[0.75, np.nan]]), np.array([[0.75, 0.5]])
    points = [
        spread(study(space, taken), [], 2, np.random.default_rng(0), SETTINGS)
        for taken in (inactive, halfway)
    ]
    np.testing.assert_array_equal(*points)


# ---- the first of some ---------------------------------------------------------------------


def keys(space: Space, points: np.ndarray) -> set[bytes]:
    return {space.key(point) for point in points}


@pytest.mark.parametrize("tried", range(4))
def test_the_first_point_that_was_not_tried_is_taken(tried):
    points = existing(MIXED, 5)
    found = first_untried(points, Tried(MIXED, points[:tried]), MIXED, np.random.default_rng(0))
    np.testing.assert_array_equal(found, points[tried])


@pytest.mark.parametrize("seed", range(10))
def test_where_all_were_tried_a_point_near_the_first_is_taken(seed):
    points = existing(SQUARE, 3)
    found = first_untried(points, Tried(SQUARE, points), SQUARE, np.random.default_rng(seed))
    assert SQUARE.key(found) not in keys(SQUARE, points)
    assert_exist(SQUARE, found[None])
    # The first move has a standard deviation of a twentieth of the range.
    assert 0 < np.abs(found - points[0]).max() < 0.3


@pytest.mark.parametrize("seed", range(5))
def test_the_last_configuration_of_a_discrete_space_is_found(seed):
    """However far from the first point; chance hardly meets one of 900."""
    space = Space(
        {
            "n": IntDistribution(0, 29),
            "c": CategoricalDistribution(list("abcdefghij")),
            "m": FloatDistribution(0, 1, step=0.5),
        },
        {"m": Condition("n", at_least=10)},
    )
    rng = np.random.default_rng(seed)
    everything = cells(space, np.full(3, np.nan), 1000)
    assert everything is not None
    shuffled = rng.permutation(everything)
    tried = Tried(space, shuffled[:-1])
    assert len(tried) == 699
    found = first_untried(shuffled[:5], tried, space, rng)
    np.testing.assert_array_equal(found, shuffled[-1])
    (found,) = spread(study(space, shuffled[:-1]), [], 1, rng, SETTINGS)
    np.testing.assert_array_equal(found, shuffled[-1])


def test_what_is_held_stays():
    held = np.array([0.3, np.nan, np.nan, np.nan])
    rng = np.random.default_rng(0)
    tried = existing(MIXED, 20)
    points = spread(study(MIXED, tried), [], 5, rng, SETTINGS, held)
    points += [beside(points[0], MIXED, 0.5, rng, held)]
    points += [first_untried(np.stack(points), Tried(MIXED, np.stack(points)), MIXED, rng, held)]
    assert {point[0] for point in points} == {0.3}
    assert len(keys(MIXED, np.stack(points))) == len(points)


def test_a_space_that_is_used_up_repeats_the_first_point():
    space = Space({"n": IntDistribution(0, 3)})
    everything = space.level_positions(0)[:, None]
    found = first_untried(everything, Tried(space, everything), space, np.random.default_rng(0))
    np.testing.assert_array_equal(found, everything[0])


# ---- beside one ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_point_beside_another_differs_a_little_in_its_numbers(seed):
    (point,) = MIXED.encode([{"lr": 1e-2, "layers": 2, "optimizer": "sgd", "momentum": 0.9}])
    found = beside(point, MIXED, 0.01, np.random.default_rng(seed))
    assert_exist(MIXED, found[None])
    moved = np.abs(found - point)
    assert 0 < moved[0] < 0.06
    assert 0 < moved[3] < 0.06
    # A hundredth of the range is less than half a level; a choice does not move at all.
    assert moved[1] == moved[2] == 0.0


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_moves_are_reflected_at_the_bounds(seed, corner):
    found = beside(np.full(2, corner), SQUARE, 0.05, np.random.default_rng(seed))
    assert SQUARE.inside(found[None]).all()
    step = 0.05 * np.random.default_rng(seed).standard_normal(2)
    np.testing.assert_allclose(np.abs(found - corner), np.abs(step))


def test_what_is_inactive_stays_inactive():
    (point,) = MIXED.encode([{"lr": 1e-2, "layers": 2, "optimizer": "adam"}])
    found = beside(point, MIXED, 0.01, np.random.default_rng(0))
    assert MIXED.decode(found[None])[0].keys() == {"lr", "layers", "optimizer"}
