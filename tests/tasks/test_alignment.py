"""A past task seen from another space: what is matched, and where its values come to lie."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from metahpo.tasks.alignment import (
    MOST_TRIALS,
    AlignedTask,
    _canonical,
    _compatible,
    align,
    identity_of,
    match_names,
    role_of,
    thinned,
)
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial, TrialState

UNIT = FloatDistribution(0, 1)


def view(
    past: dict[str, BaseDistribution], present: dict[str, BaseDistribution], *configurations: dict
) -> AlignedTask:
    trials = tuple(Trial(c, float(i)) for i, c in enumerate(configurations))
    aligned = align(Task("past", Space(past), trials), Space(present))
    assert aligned is not None
    return aligned


# ---- which hyperparameter is which ---------------------------------------------------------


@pytest.mark.parametrize(
    ("past", "present"),
    [
        ("lr", "learning_rate"),
        ("eta", "lr"),
        ("learningRate", "eta"),
        ("optim/LR", "learning_rate"),
        ("optimizer.lr", "lr"),
        ("num.trees", "n_estimators"),
        ("min.node.size", "min_samples_leaf"),
        ("opt:weight-decay", "wd"),
        ("encoder/width", "Width"),
    ],
)
def test_synonyms(past, present):
    for a, b in [(past, present), (present, past)]:
        assert match_names(Space({a: UNIT}), Space({b: UNIT})) == {a: b}


@pytest.mark.parametrize(
    ("past", "present"), [("lr", "momentum"), ("units_0", "units_1"), ("num.trees", "trees")]
)
def test_other_names_are_other_hyperparameters(past, present):
    assert match_names(Space({past: UNIT}), Space({present: UNIT})) == {}


def test_the_same_name_wins_over_a_synonym():
    past = Space({"eta": UNIT, "learning_rate": UNIT, "lr": UNIT})
    assert match_names(past, Space({"lr": UNIT})) == {"lr": "lr"}
    assert match_names(past, Space({"lr": UNIT, "eta": UNIT})) == {"eta": "eta", "lr": "lr"}


def test_a_hyperparameter_is_matched_once():
    one, two = Space({"lr": UNIT}), Space({"eta": UNIT, "learning_rate": UNIT})
    assert match_names(one, two) == {"lr": "eta"}
    assert match_names(two, one) == {"eta": "lr"}


def test_the_same_word_spelt_otherwise_wins_over_a_synonym():
    past = Space({"eta": UNIT, "learningRate": UNIT})
    assert match_names(past, Space({"learning_rate": UNIT})) == {"learningRate": "learning_rate"}


def test_a_switch_is_no_number():
    switch = CategoricalDistribution([False, True])
    for a, b in [(switch, UNIT), (switch, IntDistribution(0, 3))]:
        assert match_names(Space({"x": a}), Space({"x": b})) == {}
        assert match_names(Space({"x": b}), Space({"x": a})) == {}
    assert match_names(Space({"x": switch}), Space({"x": switch})) == {"x": "x"}


def test_types_that_carry_nothing_over_do_not_match():
    words, numbers = CategoricalDistribution(["low", "high"]), CategoricalDistribution([16, 32])
    for a, b in [(words, UNIT), (words, numbers), (words, IntDistribution(1, 3))]:
        assert match_names(Space({"x": a}), Space({"x": b})) == {}
        assert match_names(Space({"x": b}), Space({"x": a})) == {}


def test_an_incompatible_namesake_leaves_room_for_a_synonym():
    past = Space({"lr": CategoricalDistribution(["low", "high"]), "eta": UNIT})
    assert match_names(past, Space({"lr": UNIT})) == {"eta": "lr"}


# ---- where values come to lie --------------------------------------------------------------


# Names alike in each way, and some that are like no other.
NAMES = [
    "lr",
    "eta",
    "LR",
    "a/lr",
    "l-r",
    "num.trees",
    "n_estimators",
    "x",
    "y",
    "m/x",
    "X",
    "é",
    "-",
]
KINDS = [UNIT, IntDistribution(1, 4), CategoricalDistribution(["a", "b"]),
         CategoricalDistribution([1, 2]), CategoricalDistribution([True, False])]  # fmt: skip
spaces = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(KINDS), max_size=6).map(Space)


def matched_pair_by_pair(past: Space, present: Space) -> dict[str, str]:
    """A plain reference: every name beside every other, the closest kind of likeness first."""
    likenesses = (
        lambda a, b: a == b,
        lambda a, b: re.search(r"[a-z0-9]", a.lower()) and _canonical(a) == _canonical(b),
        lambda a, b: role_of(a) and role_of(a) == role_of(b),
    )
    matches: dict[str, str] = {}
    for alike in likenesses:
        for name in past:
            for other in present:
                free = name not in matches and other not in matches.values()
                if free and alike(name, other) and _compatible(name, other, past, present):
                    matches[name] = other
    return matches


@given(spaces, spaces)
@settings(max_examples=300)
def test_matches_are_those_of_comparing_every_pair_of_names(past, present):
    assert match_names(past, present) == matched_pair_by_pair(past, present)


def test_names_without_latin_letters_match_themselves_alone():
    past, present = Space({"шаг": UNIT, "é": UNIT}), Space({"шаг": UNIT, "глубина": UNIT})
    assert match_names(past, present) == {"шаг": "шаг"}
    assert identity_of("шаг") != identity_of("глубина")


def test_each_of_thousands_of_names_is_brought_into_canonical_spelling_once():
    past = Space({f"past_{number}": UNIT for number in range(2000)})
    present = Space({f"present_{number}": UNIT for number in range(2000)})
    _canonical.cache_clear()
    for _ in range(3):
        assert match_names(past, present) == {}
    assert _canonical.cache_info().misses == 4000


def test_other_bounds():
    past, present = {"x": FloatDistribution(-10, 10)}, {"x": FloatDistribution(0, 2)}
    aligned = view(past, present, {"x": 0.5}, {"x": -0.5}, {"x": 2.5}, {"x": -9.0}, {"x": 9.0})
    np.testing.assert_allclose(aligned.points[:, 0], [0.25, -0.25, 1.25, -0.5, 1.5])


def test_linear_and_log_agree_on_the_natural_scale():
    linear, log = FloatDistribution(0, 1), FloatDistribution(1e-4, 1, log=True)
    onto_log = view({"lr": linear}, {"lr": log}, {"lr": 0.01}, {"lr": 1.0}, {"lr": 0.0})
    np.testing.assert_allclose(onto_log.points[:, 0], [0.5, 1.0, np.nan])
    onto_linear = view({"lr": log}, {"lr": linear}, {"lr": 0.01}, {"lr": 0.5})
    np.testing.assert_allclose(onto_linear.points[:, 0], [0.01, 0.5])


def test_integers_and_floats():
    aligned = view({"x": FloatDistribution(0, 9)}, {"x": IntDistribution(1, 4)}, {"x": 2.0})
    np.testing.assert_allclose(aligned.points, [[0.375]])


def test_other_choices():
    past = {"c": CategoricalDistribution(["relu", "gelu", "tanh"])}
    present = {"c": CategoricalDistribution(["tanh", "relu"])}
    aligned = view(past, present, {"c": "relu"}, {"c": "gelu"}, {"c": "tanh"})
    np.testing.assert_allclose(aligned.points[:, 0], [0.75, np.nan, 0.25])


def test_numbers_and_choices_of_numbers():
    numbers, mixed = IntDistribution(1, 64), CategoricalDistribution([16, 32, "auto"])
    onto_choices = view({"bs": numbers}, {"batch": mixed}, {"bs": 16}, {"bs": 17})
    np.testing.assert_allclose(onto_choices.points[:, 0], [1 / 6, np.nan])
    onto_numbers = view({"bs": mixed}, {"batch": numbers}, {"bs": 16}, {"bs": "auto"})
    np.testing.assert_allclose(onto_numbers.points[:, 0], [15.5 / 64, np.nan])


def test_added_and_removed_hyperparameters():
    aligned = view(
        {"removed": UNIT, "eta": UNIT},
        {"added": UNIT, "lr": UNIT, "c": CategoricalDistribution(["a", "b"])},
        {"removed": 0.1, "eta": 0.2},
        {"removed": 0.3, "eta": 0.4},
    )
    np.testing.assert_allclose(aligned.points, [[np.nan, 0.2, np.nan], [np.nan, 0.4, np.nan]])
    assert aligned.shared.tolist() == [False, True, False]
    assert aligned.overlap == pytest.approx(1 / 4)
    assert aligned.values.tolist() == [0.0, 1.0]


def test_what_was_sometimes_inactive_is_known_all_the_same():
    aligned = view(
        {"x": UNIT, "y": UNIT}, {"x": UNIT, "y": UNIT}, {"x": 0.1}, {"x": 0.2, "y": 0.3}
    )
    assert aligned.shared.all()
    assert aligned.overlap == 1.0


# ---- what tells nothing --------------------------------------------------------------------


def test_only_observed_trials_count():
    trials = (
        Trial({"x": 0.1}, None, TrialState.RUNNING),
        Trial({"x": 0.2}, None, TrialState.FAILED),
        Trial({"x": 0.3}, math.nan),
        Trial({"x": 0.4}, 4.0, TrialState.PRUNED),
        Trial({"x": 0.5}, 5.0),
    )
    aligned = align(Task("past", Space({"x": UNIT}), trials), Space({"x": UNIT}))
    assert aligned is not None
    np.testing.assert_allclose(aligned.points, [[0.4], [0.5]])
    assert aligned.values.tolist() == [4.0, 5.0]


@pytest.mark.parametrize(
    ("past", "trial"),
    [
        ({"y": UNIT}, Trial({"y": 0.5}, 1.0)),  # no common hyperparameter
        ({"x": UNIT, "y": UNIT}, Trial({"y": 0.5}, 1.0)),  # a common one that was never active
        ({"x": UNIT}, Trial({"x": 0.5}, None, TrialState.FAILED)),  # nothing observed
    ],
)
def test_nothing_to_learn_from(past, trial):
    assert align(Task("past", Space(past), (trial,)), Space({"x": UNIT})) is None
    assert align(Task("past", Space(past)), Space({"x": UNIT})) is None


# ---- long past tasks -----------------------------------------------------------------------


def long_task(n: int) -> AlignedTask:
    """A task whose n values are all different, in a random order."""
    rng = np.random.default_rng(n)
    points = rng.random((n, 2))
    return AlignedTask("past", points, 10.0 * points[:, 0] + points[:, 1], np.ones(2, bool), 0.5)


@pytest.mark.parametrize("n", [1, MOST_TRIALS])
def test_a_task_that_is_short_enough_is_not_thinned(n):
    task = long_task(n)
    assert thinned(task, np.random.default_rng(0)) is task


@pytest.mark.parametrize("n", [MOST_TRIALS + 1, 2000])
def test_a_thinned_task_keeps_its_best_half_and_a_sample_of_the_rest(n):
    task = long_task(n)
    shorter = thinned(task, np.random.default_rng(0))
    assert shorter.points.shape == (MOST_TRIALS, 2)
    best = np.sort(task.values)[-MOST_TRIALS // 2 :]
    assert np.isin(best, shorter.values).all()
    assert len(np.unique(shorter.values)) == MOST_TRIALS
    assert shorter.values.min() < np.median(task.values)
    # Points stay with their values, in the order in which they were tried.
    rows = [int(np.flatnonzero(task.values == value)[0]) for value in shorter.values]
    assert rows == sorted(rows)
    np.testing.assert_array_equal(shorter.points, task.points[rows])
    assert (shorter.name, shorter.overlap) == (task.name, task.overlap)
    np.testing.assert_array_equal(shorter.shared, task.shared)


def test_the_rest_is_sampled_from_all_of_it():
    """Fifty of 1950 at random: their median misses the middle half once in 4,000 draws."""
    task = long_task(2000)
    rest = np.sort(thinned(task, np.random.default_rng(0)).values)[: MOST_TRIALS // 2]
    lower, upper = np.quantile(np.sort(task.values)[: -MOST_TRIALS // 2], [0.25, 0.75])
    assert lower < np.median(rest) < upper


def test_thinning_depends_on_the_generator_alone():
    task = long_task(300)
    first, second, other = (thinned(task, np.random.default_rng(s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.values, second.values)
    assert not np.array_equal(first.values, other.values)


# ---- the identity --------------------------------------------------------------------------

MIXED = Space(
    {
        "x": FloatDistribution(-3, 5),
        "lr": FloatDistribution(1e-5, 1, log=True),
        "layers": IntDistribution(1, 7, step=2),
        "act": CategoricalDistribution(["relu", None, 3, True]),
    }
)
rows = st.lists(st.floats(0, 1) | st.just(math.nan), min_size=4, max_size=4)


@settings(deadline=None, max_examples=50)
@given(st.lists(rows, min_size=1, max_size=5))
def test_a_task_in_its_own_space_is_as_encoded(points):
    configurations = MIXED.decode(np.array(points))
    aligned = align(Task("t", MIXED, tuple(Trial(c, 0.0) for c in configurations)), MIXED)
    encoded = MIXED.encode(configurations)
    if np.isnan(encoded).all():
        assert aligned is None
    else:
        assert aligned is not None
        np.testing.assert_array_equal(aligned.points, encoded)
        np.testing.assert_array_equal(aligned.shared, ~np.isnan(encoded).all(axis=0))
