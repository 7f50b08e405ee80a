"""Meta-features become normal scores; uninformative ones are left out."""

import numpy as np
import pytest

from metahpo.similarity import Standardiser

NAN = float("nan")


def test_scores_are_ranks_of_mean_zero_and_deviation_one():
    past = [{"a": 10.0**i} for i in range(7)]
    standardiser = Standardiser(past)
    column = standardiser.table[:, 0]
    assert np.all(np.diff(column) > 0)
    assert column.mean() == pytest.approx(0.0, abs=1e-12)
    assert column.std() == pytest.approx(1.0)


def test_a_new_task_is_clamped_to_the_range_of_the_past_ones():
    standardiser = Standardiser([{"a": float(i)} for i in range(7)])
    assert standardiser({"a": 1e99})[0] == standardiser.table[-1, 0]
    assert np.isnan(standardiser({"b": 1.0})[0])


def test_constant_and_rare_metafeatures_are_left_out():
    past = [{"a": 10.0**i, "constant": 1.0, "rare": 1.0 if i == 0 else NAN} for i in range(7)]
    assert Standardiser(past).names == ("a",)


def test_a_metafeature_that_repeats_another_counts_once():
    past = [{"a": float(i), "log": np.log(i + 1), "b": float(i % 3)} for i in range(9)]
    assert Standardiser(past).names == ("a", "b")
