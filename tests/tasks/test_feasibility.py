"""Values of tasks with constraints: any infeasible trial below any feasible one."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.problems import LINE

from metahpo.surrogate.study_arrays import study_arrays
from metahpo.tasks.alignment import align
from metahpo.tasks.feasibility import DEPTH, MARGIN, effective_values, total_violation
from metahpo.tasks.task import Task, Trial, TrialState
from metahpo.tasks.units import LARGEST_VALUE

SIZES = st.floats(1e-290, LARGEST_VALUE)
VALUES = st.one_of(st.just(0.0), SIZES, SIZES.map(lambda size: -size), st.floats(-3.0, 3.0))
VIOLATIONS = st.one_of(
    st.just(0.0), st.floats(1e-6, 1e6), st.floats(min_value=0.0), st.just(math.nan)
)


@given(st.lists(st.tuples(VALUES, VIOLATIONS), min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_every_infeasible_trial_is_below_every_feasible_one(rows):
    values, violations = map(np.array, zip(*rows, strict=True))
    effective = effective_values(values, violations)
    assert np.isfinite(effective).all()
    feasible = violations <= 0
    if feasible.all():
        assert effective is values
        return
    if feasible.any():
        assert effective[~feasible].max() < effective[feasible].min()
        order = np.argsort(values[feasible], kind="stable")
        assert (np.diff(effective[feasible][order]) >= 0).all()
    order = np.argsort(np.nan_to_num(violations[~feasible], nan=np.inf), kind="stable")
    assert (np.diff(effective[~feasible][order]) <= 0).all()


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.one_of(st.just(0.0), st.floats(0.1, 9)))),
    st.integers(-900, 300),
    st.integers(-900, 900),
)
@settings(max_examples=100, deadline=None)
def test_neither_the_unit_of_the_values_nor_that_of_the_violations_matters(rows, one, other):
    values, violations = (np.array(column) for column in zip((1.0, 0.0), *rows, strict=True))
    unit = 2.0**one
    scaled = effective_values(values * unit, violations * 2.0**other)
    assert scaled == pytest.approx(effective_values(values, violations) * unit, rel=1e-9, abs=0.0)


def test_infeasible_trials_stay_near_the_feasible_ones():
    rng = np.random.default_rng(0)
    for scale in (1e-200, 1.0, 1e80):
        values = scale * rng.normal(size=50)
        violations = np.where(rng.random(50) < 0.6, rng.lognormal(sigma=8.0, size=50), 0.0)
        effective = effective_values(values, violations)
        feasible = values[violations == 0]
        assert effective[violations == 0].tolist() == feasible.tolist()
        assert effective.min() > feasible.min() - (MARGIN + DEPTH) * np.ptp(feasible)


def test_a_diverged_feasible_training_does_not_take_the_infeasible_ones_with_it():
    values = np.array([*np.linspace(0, 1, 12), -1e12, -1e10, 0.5, 0.9])
    violations = np.array([0.0] * 14 + [1.0, 2.0])
    effective = effective_values(values, violations)
    assert effective[:12].tolist() == values[:12].tolist()
    assert effective[15] < effective[14] < effective[12] < effective[13] < 0
    assert effective.min() > -10


def test_without_a_feasible_trial_the_violations_alone_order_the_trials():
    values = np.array([3.0, 1.0, 2.0, 9.0])
    violations = np.array([2.0, 1.0, math.inf, 0.5])
    effective = effective_values(values, violations)
    assert np.argsort(-effective).tolist() == [3, 1, 0, 2]
    assert np.ptp(effective) < 2 * np.ptp(values)


def test_former_values_mostly_stay_as_they_are_when_a_trial_is_added():
    rng = np.random.default_rng(0)
    values, violations = rng.normal(size=60), np.maximum(rng.normal(size=60), 0.0)
    steps = [effective_values(values[:n], violations[:n]) for n in range(10, 61)]
    same = [np.array_equal(a, b[:-1]) for a, b in pairwise(steps)]
    assert sum(same) >= 40


def test_a_feasible_outlier_does_not_change_with_every_trial():
    """Else no fit to former trials is kept: most keys of former trials remain."""
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(5):
        values, violations = rng.normal(size=60), np.maximum(rng.normal(size=60), 0.0)
        values[5], violations[5], violations[6] = -1e6, 0.0, 1.0
        trials = tuple(
            Trial({"x": 0.5}, v, violation=c) for v, c in zip(values, violations, strict=True)
        )
        digests = [study_arrays(Task("t", LINE, trials[:n]), LINE).digests for n in range(20, 61)]
        kept += [former[-1] == later[len(former) - 1] for former, later in pairwise(digests)]
    assert sum(kept) >= 0.75 * len(kept)


@pytest.mark.parametrize(
    ("constraints", "violation"),
    [
        ([], 0.0),
        ([-1.0, 0.0], 0.0),
        ([-5.0, 1.0, 0.5], 1.5),
        ([math.nan, -1.0], math.inf),
        ([math.inf, -math.inf], math.inf),
        ([1e308, 1e308], math.inf),
    ],
)
def test_a_violation_is_the_sum_of_what_exceeds_zero(constraints, violation):
    assert total_violation(constraints) == violation


# ---- tasks ---------------------------------------------------------------------------------

TASK = Task(
    "t",
    LINE,
    (
        Trial({"x": 0.9}, 9.0, violation=2.0),
        Trial({"x": 0.1}, 1.0),
        Trial({"x": 0.2}, 2.0, TrialState.PRUNED),
        Trial({"x": 0.3}, None, TrialState.FAILED, violation=5.0),
        Trial({"x": 0.8}, 8.0, TrialState.PRUNED, violation=1.0),
        Trial({"x": 0.4}, None, TrialState.RUNNING),
    ),
)


def test_a_task_ranks_feasible_trials_first():
    assert [trial.value for trial in TASK.ranked] == [2.0, 1.0, 8.0, 9.0]
    assert TASK.best is TASK.trials[2]
    infeasible = replace(TASK, trials=tuple(t for t in TASK.trials if not t.feasible))
    assert infeasible.best is None
    assert [trial.value for trial in infeasible.ranked] == [8.0, 9.0]
    assert Task("empty", LINE).best is None


def test_the_study_in_arrays_has_failed_trials_no_better_than_the_worst_infeasible_one():
    study = study_arrays(TASK, LINE)
    worst, good, better, failed, second, *none = study.values
    assert not none
    assert (good, better) == (1.0, 2.0)
    assert failed == worst < second < good
    assert study.best[0].tolist() == [0.2]


def test_a_past_task_has_the_same_values_from_another_space():
    aligned = align(TASK, LINE)
    assert aligned is not None
    assert aligned.values.tolist() == TASK.values.tolist()
    assert aligned.points[np.argmax(aligned.values)].tolist() == [0.2]
