"""Scales, ranks and views of values."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metahpo.surrogate.scores import own_warp
from metahpo.surrogate.standardise import own_scale, rank_scores, study_scale, two_views


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_the_batched_scale_equals_that_of_scores(values: list[float], padding: int) -> None:
    padded = torch.tensor([*values, *[math.nan] * padding], dtype=torch.float64)
    scale, warp = own_scale(padded), own_warp(np.asarray(values))
    assert float(scale.centre) == pytest.approx(warp.centre, abs=1e-9)
    assert float(scale.unit) == pytest.approx(warp.unit, rel=1e-6)


def test_scores_of_a_scale_equal_those_of_its_warp() -> None:
    values = torch.linspace(-9.0, 9.0, 37, dtype=torch.float64)
    scale = own_scale(values[20:])
    expected = scale.warp.scores(values.numpy())
    assert np.allclose(scale.scores(values).numpy(), expected, atol=1e-5)


def test_the_unit_of_past_tasks_has_a_bounded_weight_that_falls_with_the_number_of_trials() -> (
    None
):
    past = torch.tensor(4.0)
    assert float(study_scale(torch.tensor([7.0]), past).unit) == 4.0
    assert float(study_scale(torch.tensor([5.0, 5.0]), past).unit) == 4.0
    values = torch.linspace(0.0, 2.0, 50, dtype=torch.float64)
    few, many, alone = (study_scale(values[::k], past).unit for k in (16, 1, 1))
    alone = study_scale(values).unit
    assert float(alone) < float(many) < float(few) < 4.0
    # Past tasks in another unit change the present one by a bounded factor.
    foreign = study_scale(values, torch.tensor(1e30)).unit
    assert float(foreign) < 1.2 * float(alone)


def test_rank_scores_are_invariant_to_monotone_maps_and_share_ties() -> None:
    values = torch.tensor([3.0, 1.0, 1.0, 8.0, math.nan], dtype=torch.float64)
    ranks = rank_scores(values)
    assert torch.allclose(ranks[:4], rank_scores(values[:4].exp()))
    assert ranks[1] == ranks[2]
    assert bool(ranks[4].isnan())
    assert torch.allclose(rank_scores(-values[:4]), -ranks[:4])


def test_views_are_bounded_and_independent_of_padding() -> None:
    values = torch.tensor([[0.0, 1.0, 2.0, -1e12, math.nan]], dtype=torch.float64)
    views = two_views(values, own_scale(values))
    assert bool((views.abs() <= 8.0).all())
    assert bool((views[0, 4] == 0).all())
    assert torch.equal(views[:, :4], two_views(values[:, :4], own_scale(values[:, :4])))
