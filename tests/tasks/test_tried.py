"""Which points were tried: by trials, and by trials that lack something."""

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo.surrogate.study_arrays import study_arrays
from metahpo.tasks.space import Condition, Configuration, Space
from metahpo.tasks.task import Task, Trial, TrialState
from metahpo.tasks.tried import Tried

SPACE = Space(
    {
        "c": CategoricalDistribution(["a", "b"]),
        "n": IntDistribution(0, 2),
        "x": IntDistribution(0, 1),
    }
)
LACKS, HAS, OTHER = {"c": "a", "n": 0}, {"c": "b", "n": 1, "x": 1}, {"c": "b", "n": 0}


def tried(trials: list[Trial], configuration: Configuration, space: Space = SPACE) -> bool:
    point = space.canonical(space.encode([configuration]))
    return bool(study_arrays(Task("t", space, tuple(trials)), space).tried(point)[0])


def test_a_completed_trial_covers_all_that_agrees_with_it():
    for order in ([LACKS, HAS, LACKS], [HAS, LACKS], [LACKS, HAS]):
        trials = [Trial(configuration, 1.0) for configuration in order]
        assert tried(trials, {**LACKS, "x": 0})
        assert tried(trials, {**LACKS, "x": 1})
        assert tried(trials, HAS)
        assert not tried(trials, {**HAS, "x": 0})
        assert not tried(trials, {**OTHER, "x": 0})


def test_a_hyperparameter_that_came_later_is_new():
    trials = [Trial(c, 1.0) for c in (LACKS, OTHER, HAS, {**OTHER, "x": 1})]
    assert not tried(trials, {**LACKS, "x": 0})
    assert not tried(trials, {**OTHER, "x": 0})
    assert tried(trials, {**OTHER, "x": 1})


def test_trials_that_may_request_more_cover_nothing_else():
    for state in (TrialState.RUNNING, TrialState.FAILED):
        trials = [Trial(HAS, 1.0), Trial(LACKS, None, state)]
        assert not tried(trials, {**LACKS, "x": 0})
    assert tried([Trial(HAS, 1.0), Trial(LACKS, 1.0, TrialState.PRUNED)], {**LACKS, "x": 0})


def test_a_value_that_has_no_place_is_not_lacking():
    trials = [Trial(HAS, 1.0), Trial({**LACKS, "x": "text"}, 1.0), Trial({}, 1.0)]
    assert not tried(trials, {**LACKS, "x": 0})


def test_what_conditions_rule_out_is_not_lacking_and_does_not_count():
    space = SPACE.with_conditions({"x": Condition("c", ("b",))})
    trials = [Trial({**LACKS, "x": 1}, None, TrialState.RUNNING)]
    assert tried(trials, LACKS, space)
    assert not tried(trials, {**LACKS, "n": 1}, space)


def test_what_lies_beyond_the_bounds_is_not_the_bound():
    space = Space({"x": FloatDistribution(0, 1)})
    assert not tried([Trial({"x": 1.5}, 1.0)], {"x": 1.0}, space)


def test_further_points_are_tried_too():
    points = SPACE.encode([HAS, {**LACKS, "x": 0}])
    before = Tried(SPACE, points[:1])
    assert before(points).tolist() == [True, False]
    assert before.and_also([points[1]])(points).tolist() == [True, True]
    assert before(points).tolist() == [True, False]
    assert len(before) == 1


def test_the_key_of_a_point_is_that_of_its_row():
    """Also at minus zero, and a little below zero."""
    points = np.array([[-0.0, 0.5], [0.0, 0.5], [-1e-12, np.nan], [0.0, np.nan]])
    one, same, two, again = keys = Space.keys(points)
    assert keys == [Space.key(point) for point in points]
    assert one == same
    assert two == again
