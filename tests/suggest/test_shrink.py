"""The promising box: where it closes, where it opens again, and that points stay inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metahpo.suggest.shrink import Box, natural_bounds, promising_box, widen
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo.tasks.alignment import AlignedTask
from metahpo.tasks.space import Space

CHOICES = CategoricalDistribution(["a", "b", "c", "d"])
SPACE = Space({"x": FloatDistribution(0, 10), "c": CHOICES})
B = 0.375  # where choice "b" lies


def peak(at: float, choice: float = B, n: int = 40) -> AlignedTask:
    """A past task whose values fall with the distance to ``at``, and for other choices."""
    rng = np.random.default_rng(int(1000 * at))
    points = np.stack([rng.random(n), (rng.integers(0, 4, n) + 0.5) / 4], axis=1)
    points[:8] = np.stack([np.linspace(at - 0.02, at + 0.02, 8), np.full(8, choice)], axis=1)
    values = -np.abs(points[:, 0] - at) - (points[:, 1] != choice)
    return AlignedTask("past", points, values, np.ones(2, dtype=bool), 1.0)


def box_of(*tasks: AlignedTask, space: Space = SPACE, weights: list[float] | None = None) -> Box:
    shares = np.full(len(tasks), 1 / len(tasks)) if weights is None else np.array(weights)
    return promising_box(tasks, shares, space)


# ---- where past tasks had their best trials ------------------------------------------------


def test_the_box_contains_past_optima_and_little_else():
    box = box_of(peak(0.4), peak(0.5), peak(0.55))
    assert box.low[0] < 0.4
    assert box.high[0] > 0.55
    assert box.high[0] - box.low[0] < 0.5


@pytest.mark.parametrize("at", [0.0, 1.0])
def test_a_box_at_an_edge_has_some_width(at):
    box = box_of(peak(at))
    assert 0.0 <= box.low[0] < box.high[0] <= 1.0
    assert box.high[0] - box.low[0] > 0.05
    assert box.low[0] <= at <= box.high[0]


def test_past_optima_outside_the_bounds_pull_the_box_to_the_edge():
    outside = AlignedTask(
        "past", np.array([[1.4, B], [1.5, B]]), np.array([1.0, 2.0]), np.ones(2, dtype=bool), 1.0
    )
    box = box_of(outside)
    assert box.high[0] == 1.0
    assert 0.5 < box.low[0] < 1.0


def test_one_odd_task_does_not_undo_it():
    usual, odd = [peak(0.3 + 0.002 * i) for i in range(40)], peak(0.95, choice=0.875)
    box = box_of(*usual, odd, weights=[0.99 / 40] * 40 + [0.01])
    assert box.high[0] < 0.6
    assert box.choices[1].tolist() == [False, True, False, False]


def test_weights_decide():
    low, high = peak(0.1), peak(0.9)
    assert box_of(low, high, weights=[0.999, 0.001]).high[0] < 0.5
    assert box_of(low, high, weights=[0.001, 0.999]).low[0] > 0.5


def test_choices_are_pruned():
    box = box_of(peak(0.3), peak(0.3, choice=0.125))
    assert box.choices[1].tolist() == [True, True, False, False]
    assert box.allows(1, 0)
    assert not box.allows(1, 3)


def test_of_many_choices_some_are_left():
    space = Space({"c": CategoricalDistribution(range(60))})
    tasks = [
        AlignedTask("past", np.array([[(i + 0.5) / 60]]), np.ones(1), np.array([True]), 1.0)
        for i in range(60)
    ]
    assert box_of(*tasks, space=space).choices[0].all()


def test_a_column_that_no_past_task_knows_stays_open():
    task = peak(0.3)
    task.points[:, 0] = np.nan
    box = box_of(task)
    assert (box.low[0], box.high[0]) == (0.0, 1.0)
    assert box.choices[1].tolist() == [False, True, False, False]


# ---- the way back --------------------------------------------------------------------------


def narrow() -> Box:
    return Box(
        np.array([0.4, 0.0]), np.array([0.6, 1.0]), {1: np.array([False, True, False, False])}
    )


@pytest.mark.parametrize(
    ("at", "low", "high"), [(0.41, 0.0, 0.6), (0.59, 0.4, 1.0), (0.5, 0.4, 0.6), (0.9, 0.4, 1.0)]
)
def test_the_box_opens_on_the_side_that_the_best_trials_press_against(at, low, high):
    box = narrow()
    points = np.array([[at, B]] * 3 + [[0.01, B], [0.99, B]] * 10)
    values = np.array([1.0] * 3 + [0.0] * 20)
    wide = widen(box, points, values, SPACE)
    assert (wide.low[0], wide.high[0]) == (low, high)
    assert (box.low[0], box.high[0]) == (0.4, 0.6)


def test_the_choices_of_the_best_trials_are_restored():
    box = narrow()
    points = np.array([[0.5, 0.875]] * 3 + [[0.5, 0.125]] * 10)
    wide = widen(box, points, np.array([1.0] * 3 + [0.0] * 10), SPACE)
    assert wide.choices[1].tolist() == [False, True, False, True]
    assert box.choices[1].tolist() == [False, True, False, False]


def test_inactive_hyperparameters_do_not_press():
    wide = widen(narrow(), np.full((3, 2), np.nan), np.zeros(3), SPACE)
    assert (wide.low[0], wide.high[0]) == (0.4, 0.6)


# ---- points and the box --------------------------------------------------------------------

unit = st.floats(0, 1) | st.just(float("nan"))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(unit, unit), min_size=1, max_size=6))
def test_placed_points_are_inside(rows):
    points, box = np.array(rows), narrow()
    placed = box.place(points)
    np.testing.assert_array_equal(np.isnan(placed), np.isnan(points))
    numbers, choices = (column[~np.isnan(column)] for column in placed.T)
    assert ((numbers >= 0.4) & (numbers <= 0.6)).all()
    assert (choices == B).all()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1, 2) | st.just(float("nan")), min_size=1, max_size=6))
def test_clipped_points_are_inside_and_others_stay(column):
    points = np.stack([np.array(column), np.full(len(column), B)], axis=1)
    clipped = narrow().clip(points)[:, 0]
    active = clipped[~np.isnan(clipped)]
    assert ((active >= 0.4) & (active <= 0.6)).all()
    inside = (points[:, 0] >= 0.4) & (points[:, 0] <= 0.6)
    np.testing.assert_array_equal(clipped[inside], points[inside, 0])


def test_the_full_box_moves_nothing():
    points = np.array([[0.0, 0.125], [0.3, B], [1.0, 0.875]])
    full = Box.full(SPACE)
    np.testing.assert_allclose(full.place(points), points)
    np.testing.assert_array_equal(full.clip(points), points)


def test_place_spreads_over_the_choices_that_are_left():
    box = Box(np.zeros(2), np.ones(2), {1: np.array([True, False, True, False])})
    positions = np.stack([np.zeros(4), np.array([0.0, 0.4, 0.6, 1.0])], axis=1)
    assert box.place(positions)[:, 1].tolist() == [0.125, 0.125, 0.625, 0.625]


# ---- for people ----------------------------------------------------------------------------


def test_natural_bounds_name_what_is_narrowed():
    space = Space(
        {
            "lr": FloatDistribution(1e-4, 1, log=True),
            "layers": IntDistribution(1, 10),
            "free": FloatDistribution(0, 1),
            "c": CHOICES,
        }
    )
    box = Box(np.array([0.25, 0.2, 0, 0]), np.array([0.5, 0.5, 1, 1]), Box.full(space).choices)
    bounds = natural_bounds(box, space)
    assert bounds.keys() == {"lr", "layers"}
    assert bounds["lr"] == pytest.approx((1e-3, 1e-2))
    assert bounds["layers"][0] in (2, 3)
    assert bounds["layers"][1] in (5, 6)
    assert natural_bounds(Box.full(space), space) == {}
