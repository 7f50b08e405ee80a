"""The unit that values are computed in: exact, and nothing changes for ordinary values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.problems import LINE

from metahpo.tasks.alignment import align
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial
from metahpo.tasks.units import LARGEST_VALUE, in_safe_unit, times_power_of_two

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Of a task: in any unit, alike in magnitude.
fractions = st.lists(st.floats(-1.0, 1.0).filter(lambda v: abs(v) > 1e-3), min_size=1, max_size=9)


@given(fractions, st.integers(-1060, 1023))
def test_squares_are_safe_and_nothing_is_lost_in_any_unit(values, exponent):
    given = np.ldexp(np.array(values), exponent)
    scaled, back = in_safe_unit(given)
    np.testing.assert_array_equal(times_power_of_two(scaled, back), given)
    assert (np.argsort(scaled, kind="stable") == np.argsort(given, kind="stable")).all()
    with np.errstate(all="raise"):
        assert (np.square(scaled) > 0).all()
        assert np.isfinite(np.square(scaled).sum())


@given(st.lists(st.floats(-1e90, 1e90).filter(lambda v: v == 0 or abs(v) > 1e-90), max_size=9))
def test_ordinary_values_are_not_changed(values):
    scaled, exponent = in_safe_unit(values)
    assert exponent == 0
    np.testing.assert_array_equal(scaled, values)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=9))
def test_any_finite_values_are_bounded_and_keep_their_order(values):
    scaled, _ = in_safe_unit(values)
    assert (np.abs(scaled) <= LARGEST_VALUE).all()
    assert (np.diff(scaled[np.argsort(np.array(values), kind="stable")]) >= 0).all()


@pytest.mark.parametrize("sentinel", [-1e300, -1.79e308])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_numbers_that_stand_for_failures_do_not_decide_the_unit(sentinel, count):
    scaled, exponent = in_safe_unit([sentinel] * count + [1.0, 2.0])
    assert exponent == 0
    assert scaled.tolist() == [-LARGEST_VALUE] * count + [1.0, 2.0]


def test_without_values_or_with_zeros_alone_there_is_nothing_to_scale():
    for values in ([], [0.0], [0.0, -0.0]):
        assert in_safe_unit(values)[1] == 0


def test_a_past_task_is_aligned_in_a_safe_unit():
    trials = tuple(Trial({"x": x}, -1e-200 * x) for x in (0.1, 0.2, 0.4))
    aligned = align(Task("past", LINE, trials), Space(LINE.distributions))
    assert (np.diff(np.square(aligned.values)) > 0).all()
    np.testing.assert_allclose(aligned.values / aligned.values[0], [1, 2, 4])
