"""Which values are the same choice: Optuna's rule, the class first, for objects of any kind."""

import json
import math
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from support.nasty_choices import FIXED, NAN, Layer, Tanh, choices, relu

from metahpo.surrogate.networks.space_description import describe
from metahpo.tasks.alignment import align
from metahpo.tasks.choices import Match, choice_key, choice_text, distribution_key, same_choice
from metahpo.tasks.conditions import infer_conditions
from metahpo.tasks.space import Condition, Space
from metahpo.tasks.task import Task, Trial

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

many = st.lists(choices, min_size=1, max_size=6)


def categorical(values) -> CategoricalDistribution:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what not every storage can hold
        return CategoricalDistribution(values)


def space_of(values) -> Space:
    return Space({"c": categorical(values)})


@given(many)
def test_every_choice_is_found_at_the_first_place_of_its_class(values):
    space = space_of(values)
    keys = [choice_key(value) for value in values]
    points = space.encode([{"c": value} for value in values])[:, 0]
    expected = [(keys.index(key) + 0.5) / len(values) for key in keys]
    np.testing.assert_allclose(points, expected)
    for decoded, value in zip(space.decode(points[:, None]), values, strict=True):
        assert choice_key(decoded["c"]) == choice_key(value)


@given(many, choices)
def test_what_optuna_finds_is_found_and_equal(values, value):
    try:
        expected = categorical(values).to_internal_repr(value)
    except ValueError:
        return
    position = space_of(values).encode([{"c": value}])[0, 0]
    found = int(position * len(values))
    assert found == expected or type(values[found]) is type(value)
    assert choice_key(values[found], Match.EQUALITY) == choice_key(value, Match.EQUALITY)


@given(choices, choices)
def test_equal_keys_have_equal_hashes_and_stricter_ones_are_looser_ones(one, other):
    for match in Match:
        keys = choice_key(one, match), choice_key(other, match)
        assert keys[0] == choice_key(one, match)
        assert keys[0] != keys[1] or hash(keys[0]) == hash(keys[1])
    assert choice_key(one) != choice_key(other) or same_choice(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, np.int64(1)), (NAN, np.float32("nan")), ((1, [2]), [1, (2.0,)]),
     ("a", np.str_("a")), (Layer(1), Layer(1)), ({"a": NAN}, {"a": NAN}), (relu, relu),
     (True, np.bool_(True)), (np.array([1, 2]), [1, 2]),
     (np.array([[1, 2], [3, 4]]), ((1, 2), (3, 4))), (np.array([]), ()), ({1}, frozenset({1}))],
)  # fmt: skip
def test_the_same_choice(one, other):
    assert same_choice(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (0, False), (NAN, "NaN"), (NAN, None), ("1", 1), (Layer(1), Layer(2)),
     ([1], {1}), ((1,), 1), (Tanh(), Tanh()), (lambda: 0, lambda: 0), ([True], [1]),
     ({}, set()), ({}, frozenset()), (np.array([1, 2]), [2, 1]), ([], {}), ([], set())],
)  # fmt: skip
def test_other_choices(one, other):
    assert not same_choice(one, other)


@given(many)
def test_spaces_are_told_apart_by_their_choices(values):
    assert distribution_key(categorical(values)) == distribution_key(categorical(values))
    longer = distribution_key(categorical([*values, "another"]))
    assert len({longer, distribution_key(categorical(values))}) == 2


@given(many, many, st.integers(0, 5))
def test_conditions_and_past_tasks_of_any_choices(values, past_values, active):
    """Spaces, conditions and alignment, of the same and of other choices."""
    space = Space({"c": categorical(values), "d": categorical(["x", "y"])})
    past = Space({"c": categorical(past_values), "d": categorical(["x", "y"])})
    rows = [
        {"c": value, **({"d": "x"} if place == active else {})}
        for place, value in enumerate(past_values)
    ]
    conditions = infer_conditions([past], [rows])
    for row in rows:
        if "d" in conditions:
            assert conditions["d"].admits(row["c"]) == ("d" in row)
    conditioned = space.with_conditions(conditions)
    points = conditioned.activate(conditioned.encode([{"c": v, "d": "y"} for v in values]))
    for configuration in conditioned.decode(points):
        if "d" in conditions and conditions["d"].at_least is None:
            known = {choice_key(choice) for choice in conditions["d"].choices}
            assert "d" in configuration or choice_key(configuration["c"]) not in known
    task = Task("past", past, tuple(Trial(row, float(i)) for i, row in enumerate(rows)))
    aligned = align(task, conditioned)
    assert aligned is None or aligned.points.shape == (len(rows), 2)


@given(many)
def test_networks_are_shown_every_choice_the_same_way_in_every_process(values):
    codes = describe(space_of(values)).choice_codes
    assert (codes.abs() == 1.0).all()
    again = describe(space_of([*values])).choice_codes
    assert (codes == again).all()


def test_objects_are_told_apart_without_their_addresses():
    first, second = Tanh(), Tanh()
    codes = describe(space_of([first, second, lambda: 0, lambda: 1])).choice_codes[0]
    assert len({tuple(code.tolist()) for code in codes}) == 4
    # Another object at another address in the same place.
    assert (describe(space_of([Tanh(), first])).choice_codes[0] == codes[:2]).all()
    assert choice_text(first) == "Tanh"
    assert choice_text(relu) == "relu"


def test_a_condition_on_true_does_not_admit_one():
    space = Space(
        {"c": categorical([True, 1]), "d": categorical(["x", "y"])},
        {"d": Condition("c", choices=(True,))},
    )
    points = space.activate(space.encode([{"c": True, "d": "x"}, {"c": 1, "d": "x"}]))
    assert np.isnan(points[:, 1]).tolist() == [False, True]


def test_numpy_scalars_are_written_as_numbers():
    (text,) = space_of([np.int64(3), np.float32(0.5), np.bool_(True), "a"]).to_json().values()
    assert json.loads(text)["attributes"]["choices"] == [3, 0.5, True, "a"]
    with pytest.raises(TypeError, match="relu"):
        space_of([relu]).to_json()


def test_a_space_is_pickled_with_its_choices():
    space = space_of([c for c in FIXED if not isinstance(c, float) or not math.isnan(c)])
    space.encode([{"c": 1}])
    again = pickle.loads(pickle.dumps(space))
    assert again.encode([{"c": relu}]) == space.encode([{"c": relu}])
