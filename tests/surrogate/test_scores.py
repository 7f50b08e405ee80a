"""The warp between values and scores: invertible, monotone, with the density it claims."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metahpo.surrogate.scores import (
    FENCE,
    Warp,
    compressed,
    own_units,
    own_warp,
    standardising_warp,
    tells_unit,
)
from metahpo.tasks.units import in_safe_unit

# The time a case takes says nothing on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

warps = st.builds(
    Warp, st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.floats(0, 10) | st.just(math.inf)
)
values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8).map(np.array)

many = st.lists(st.floats(-10, 10), min_size=2, max_size=12, unique_by=lambda v: round(v, 3))


@given(many, st.sampled_from([0.0, 1.0, math.inf]))
def test_arrays_and_tensors_are_compressed_by_one_formula(values, knee):
    array = np.array(values)
    expected = [v if v >= -knee else -knee - math.log1p(-knee - v) for v in values]
    np.testing.assert_allclose(compressed(array, knee), expected, atol=1e-12)
    np.testing.assert_allclose(compressed(torch.from_numpy(array), knee), expected, atol=1e-12)


def plain_units(values: np.ndarray) -> tuple[float, float]:
    """The definition, of one task: median, and root mean square distance of the upper half."""
    centre = float(np.median(values))
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        return centre, 1.0
    upper = values[values >= centre]
    unit = float(np.sqrt(np.mean((upper - centre) ** 2)))
    return centre, unit if unit > 1e-12 * np.abs(upper).max() else float(values.std())


@given(many)
def test_units_of_whole_batches_are_those_of_the_definition(values):
    array = np.array(values)[::-1]
    given = torch.tensor(values, dtype=torch.float64)
    padded = torch.full((2, len(values) + 3), torch.nan, dtype=torch.float64)
    padded[0, : len(values)] = given
    padded[1, 2 : 2 + len(values)] = 1000.0 * given
    centres, units = own_units(padded)
    expected = plain_units(array)
    assert (float(own_warp(array).centre), own_warp(array).unit) == pytest.approx(expected)
    assert (float(centres[1]), float(units[1])) == pytest.approx(tuple(1000 * e for e in expected))


@given(many, st.integers(-1000, 300))
def test_units_of_tiny_and_huge_values_are_exact(values, exponent):
    array = np.array(values)
    moved = torch.from_numpy(np.ldexp(array, exponent))
    for found, expected in zip(own_units(moved), own_units(torch.from_numpy(array)), strict=True):
        assert float(found) == np.ldexp(float(expected), exponent) or not tells_unit(array)


@given(warps, values)
def test_values_come_back(warp, values):
    back = warp.values(warp.scores(values))
    np.testing.assert_allclose(back, values, rtol=1e-9, atol=1e-9 * (1 + abs(warp.centre)))


@given(warps, st.lists(st.floats(-20, 1e3), min_size=1, max_size=8).map(np.array))
def test_scores_come_back(warp, scores):
    back = warp.scores(warp.values(scores))
    np.testing.assert_allclose(
        back, scores, rtol=1e-6, atol=1e-8 * (1 + abs(warp.centre)) / warp.unit
    )


@given(warps, values)
def test_the_order_stays(warp, values):
    scores = warp.scores(values)
    assert (np.diff(scores[np.argsort(values)]) >= 0).all()


def test_strictly_increasing_and_smooth_at_the_centre():
    warp = Warp(2.0, 0.5)
    scores = warp.scores(np.linspace(-8, 8, 401))
    slopes = np.diff(scores)
    assert (slopes > 0).all()
    assert (np.diff(slopes) >= -1e-12).all()  # compressed below, linear above, no kink between
    assert warp.scores(np.array([2.0, 3.0])).tolist() == [0.0, 2.0]


@given(warps, st.lists(st.floats(-50, 50), min_size=1, max_size=5).map(np.array))
def test_log_slopes_are_the_derivative(warp, z):
    values = warp.centre + warp.unit * z
    step = 1e-5 * warp.unit
    slopes = (warp.scores(values + step) - warp.scores(values - step)) / (2 * step)
    assert warp.log_slopes(values) == pytest.approx(np.log(slopes), abs=1e-3)


scores = st.lists(st.floats(-20, 20), min_size=1, max_size=5).map(np.array)


@given(warps, scores, st.floats(0, 5))
def test_moments_of_values_are_those_of_the_values_one_deviation_away(warp, mean, deviation):
    found, spread = warp.moments(mean, np.full(len(mean), deviation))
    low, high = warp.values(mean - deviation), warp.values(mean + deviation)
    np.testing.assert_array_equal(found, warp.values(mean))
    np.testing.assert_allclose(spread, (high - low) / 2)
    assert (spread >= 0).all()


@given(warps, scores, st.floats(0, 5))
def test_above_the_knee_moments_are_in_proportion(warp, mean, deviation):
    mean = np.maximum(mean, deviation - warp.knee)
    found, spread = warp.moments(mean, np.full(len(mean), deviation))
    close = {"rtol": 1e-9, "atol": 1e-9 * (warp.unit + abs(warp.centre))}
    np.testing.assert_allclose(found, warp.centre + warp.unit * mean, **close)
    np.testing.assert_allclose(spread, warp.unit * deviation, **close)


def test_below_the_knee_values_spread_farther_than_scores():
    warp = Warp(centre=3.0, unit=2.0, knee=1.0)
    _, spread = warp.moments(np.array([0.0, -1.0, -2.0, -3.0]), np.full(4, 0.5))
    assert spread[0] == pytest.approx(1.0)
    assert (np.diff(spread) > 0).all()


# ---- a task's own warp ---------------------------------------------------------------------


def test_centre_and_unit():
    warp = own_warp(np.array([-100.0, 0.0, 1.0, 3.0, 5.0]))
    assert warp.centre == 1.0
    assert warp.unit == pytest.approx(math.sqrt((0 + 2**2 + 4**2) / 3))


def test_where_the_upper_half_is_flat_the_deviation_serves():
    values = np.array([0.0, 1.0, 1.0, 1.0])
    assert own_warp(values) == Warp(1.0, pytest.approx(values.std()))


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [-1e30] * 5, [0.1 + 0.2, 0.3, 0.3]])
def test_values_that_agree_have_score_nothing(values):
    values = np.array(values)
    warp = own_warp(values)
    assert warp.unit == 1.0
    np.testing.assert_allclose(warp.scores(values), 0.0, atol=1e-12)


@given(
    st.lists(st.floats(-10, 10), min_size=2, max_size=8, unique_by=lambda v: round(v, 3)),
    st.floats(-100, 100),
    st.floats(1e-3, 1e3),
)
def test_location_and_unit_of_the_values_do_not_matter(values, shift, scale):
    values = np.array(values)
    moved = shift + scale * values
    before, after = own_warp(values).scores(values), own_warp(moved).scores(moved)
    np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6)


def test_tiny_values_are_told_apart():
    values = np.array([1.0, 2.0, 3.0, 4.0])
    tiny = 1e-14 * values
    np.testing.assert_allclose(own_warp(tiny).scores(tiny), own_warp(values).scores(values))


@pytest.mark.parametrize("sentinel", [-1e9, -1e12, -1e300, -1.79e308])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("warp_of", [own_warp, standardising_warp])
def test_sentinels_for_failure_do_not_overflow(warp_of, count, sentinel):
    values, _ = in_safe_unit([*[sentinel] * count, 1.0, 2.0])
    assert np.isfinite(warp_of(values).scores(values)).all()


@pytest.mark.parametrize("sentinel", [-1e6, -1e12, -1.79e308])
def test_how_far_a_failure_lies_below_does_not_change_the_unit(sentinel):
    values = np.array([-0.2, -0.25, -0.3, -0.41, -0.5, -0.33])
    units = [
        (own_warp(np.array(told)).unit, standardising_warp(np.array(told)).unit)
        for told in ([*values, -1e3], in_safe_unit([*values, sentinel])[0])
    ]
    assert units[1] == pytest.approx(units[0])


@pytest.mark.parametrize("values", [[], [3.0], [2.0, 2.0], [0.3, 0.1 + 0.2], [1e30, 1e30], [0, 0]])
def test_values_that_agree_up_to_rounding_tell_no_unit(values):
    assert not tells_unit(np.array(values, float))
    if values:
        assert own_warp(np.array(values, float)).unit == 1.0
        assert standardising_warp(np.array(values, float)).unit == 1.0


@pytest.mark.parametrize("values", [[1.0, 2.0], [1e-9, 2e-9], [1.0, 1.0, -1e12]])
def test_other_values_tell_one(values):
    assert tells_unit(np.array(values))
    # As a thousand times the values do.
    for warp_of in (own_warp, standardising_warp):
        unit = warp_of(np.array(values)).unit
        assert warp_of(1000 * np.array(values)).unit == pytest.approx(1000 * unit)


# ---- the warp of a model that knows one task alone -----------------------------------------


@given(many.map(np.array))
def test_without_outliers_values_are_standardised(values):
    lower, upper = np.quantile(values, [0.25, 0.75])
    if values.min() >= lower - FENCE * (upper - lower):
        expected = (values - values.mean()) / values.std()
        np.testing.assert_allclose(standardising_warp(values).scores(values), expected, atol=1e-6)


def test_outliers_are_compressed_and_leave_the_others_alone():
    values = np.linspace(0.0, 1.0, 12)
    values[0] = -1e3
    diverged = values.copy()
    diverged[0] = -1e9
    scores, others = (standardising_warp(v).scores(v) for v in (values, diverged))
    np.testing.assert_allclose(scores[1:], others[1:])
    assert others[0] < scores[0] < scores[1:].min() - 1
    assert np.ptp(scores[1:]) > 1


@given(many, st.floats(-100, 100), st.floats(1e-3, 1e3))
def test_standardised_scores_know_no_location_and_unit(values, shift, scale):
    values = np.array(values)
    moved = shift + scale * values
    before = standardising_warp(values).scores(values)
    np.testing.assert_allclose(standardising_warp(moved).scores(moved), before, atol=1e-5)


@pytest.mark.parametrize("values", [[3.0], [0.0, 0.0], [-1e30] * 5, [0.1 + 0.2, 0.3, 0.3]])
def test_where_all_agree_scores_are_nothing(values):
    values = np.array(values)
    np.testing.assert_allclose(standardising_warp(values).scores(values), 0.0, atol=1e-12)
