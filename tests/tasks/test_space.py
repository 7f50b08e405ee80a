"""Search spaces: what is encoded comes back, and activity follows the conditions."""

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from metahpo.tasks.conditions import infer_conditions, joined
from metahpo.tasks.distributions import parse_distribution
from metahpo.tasks.space import ROUNDING, Condition, Space, SpaceError

# The time a case takes says nothing on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

CHOICES = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=3)


@st.composite
def floats(draw: st.DrawFn) -> FloatDistribution:
    low, high = sorted(draw(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2)))
    return FloatDistribution(low, high)


@st.composite
def log_floats(draw: st.DrawFn) -> FloatDistribution:
    low, high = sorted(draw(st.lists(st.floats(1e-12, 1e12), min_size=2, max_size=2)))
    return FloatDistribution(low, high, log=True)


@st.composite
def stepped_floats(draw: st.DrawFn) -> FloatDistribution:
    step = draw(st.integers(1, 50)) / draw(st.sampled_from([1, 10, 1000, 10**9]))
    digits = max(0, 12 - math.floor(math.log10(step)))
    low = round(draw(st.integers(-100, 100)) * step, digits)
    return FloatDistribution(low, round(low + draw(st.integers(0, 40)) * step, digits), step=step)


@st.composite
def ints(draw: st.DrawFn) -> IntDistribution:
    low, step = draw(st.integers(-1000, 1000)), draw(st.integers(1, 9))
    return IntDistribution(low, low + step * draw(st.integers(0, 10**6)), step=step)


@st.composite
def log_ints(draw: st.DrawFn) -> IntDistribution:
    low = draw(st.integers(1, 100))
    return IntDistribution(low, low + draw(st.integers(0, 10**6)), log=True)


@st.composite
def categoricals(draw: st.DrawFn) -> CategoricalDistribution:
    distinct = st.lists(CHOICES, min_size=1, max_size=6, unique_by=lambda c: (type(c), c))
    return CategoricalDistribution(draw(distinct))


distributions = st.one_of(
    floats(), log_floats(), stepped_floats(), ints(), log_ints(), categoricals()
)
spaces = st.builds(Space, st.dictionaries(st.text(max_size=4), distributions, max_size=5))
positions = st.floats(0, 1) | st.just(math.nan)


@st.composite
def spaces_with_points(draw: st.DrawFn) -> tuple[Space, np.ndarray]:
    space = draw(spaces)
    row = st.lists(positions, min_size=len(space), max_size=len(space))
    rows = draw(st.lists(row, min_size=1, max_size=4))
    return space, np.array(rows, float).reshape(len(rows), len(space))


def contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(type(c) is type(value) and c == value for c in distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    whole = isinstance(value, int) or isinstance(distribution, FloatDistribution)
    return whole and distribution._contains(distribution.to_internal_repr(value))


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


class TestRoundTrips:
    @given(spaces_with_points())
    def test_decoded_values_are_contained(self, drawn):
        space, points = drawn
        for configuration in space.decode(points):
            for name, value in configuration.items():
                assert contains(space.distributions[name], value)

    @given(spaces_with_points())
    def test_a_decoded_configuration_survives_encoding(self, drawn):
        space, points = drawn
        configurations = space.decode(points)
        again = space.decode(space.encode(configurations))
        for first, second in zip(configurations, again, strict=True):
            assert first.keys() == second.keys()
            for name, value in first.items():
                assert type(value) is type(second[name])
                assert second[name] == (near(value) if isinstance(value, float) else value)

    @given(spaces_with_points())
    def test_inactive_stays_inactive(self, drawn):
        space, points = drawn
        inactive = np.isnan(points)
        assert (np.isnan(space.encode(space.decode(points))) == inactive).all()
        assert (np.isnan(space.snap(points)) == inactive).all()

    @given(spaces_with_points())
    def test_snap_is_idempotent_and_changes_no_decoded_value(self, drawn):
        space, points = drawn
        snapped = space.snap(points)
        np.testing.assert_allclose(space.snap(snapped), snapped, atol=1e-12)
        assert space.decode(snapped) == space.decode(points)

    @given(spaces_with_points())
    def test_encoded_configurations_lie_inside_the_bounds(self, drawn):
        space, points = drawn
        encoded = space.encode(space.decode(points))
        assert space.inside(encoded).all()

    @given(spaces)
    def test_json_and_pickle(self, space):
        assert Space.from_json(space.to_json()) == space
        assert pickle.loads(pickle.dumps(space)) == space


class TestEncode:
    SPACE = Space(
        {
            "lr": FloatDistribution(1e-4, 1e-2, log=True),
            "layers": IntDistribution(1, 4),
            "act": CategoricalDistribution(["relu", None, True, 1]),
        }
    )

    def test_natural_scale(self):
        points = self.SPACE.encode([{"lr": 1e-3, "layers": 1, "act": None}])
        np.testing.assert_allclose(points, [[0.5, 0.125, 0.375]])

    def test_a_value_outside_the_bounds_lies_outside_the_unit_interval(self):
        points = self.SPACE.encode([{"lr": 1e-5, "layers": 6}])
        np.testing.assert_allclose(points[0, :2], [-0.5, 1.375])

    @pytest.mark.parametrize(
        "configuration",
        [
            {},
            {"other": 1.0},
            {"lr": "0.001", "layers": "2", "act": "tanh"},
            {"lr": -1.0, "layers": None, "act": 7},
            {"lr": math.inf, "layers": math.nan, "act": [1, 2]},
            {"lr": 10**400, "layers": 1j, "act": {"a": 1}},
        ],
    )
    def test_what_has_no_place_is_inactive(self, configuration):
        assert np.isnan(self.SPACE.encode([configuration])).all()

    def test_equal_choices_of_different_types_are_told_apart(self):
        points = self.SPACE.encode([{"act": True}, {"act": 1}, {"act": 1.0}])
        np.testing.assert_allclose(points[:, 2], [0.625, 0.875, 0.625])

    def test_numpy_numbers_are_numbers(self):
        points = self.SPACE.encode([{"lr": np.float32(1e-3), "layers": np.int64(1)}])
        np.testing.assert_allclose(points[0, :2], [0.5, 0.125], rtol=1e-6)


class TestLevels:
    def test_decimal_steps_stay_decimal(self):
        space = Space({"x": FloatDistribution(0.1, 0.9, step=0.1)})
        values = [c["x"] for c in space.decode(space.level_positions(0)[:, None])]
        assert values == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]

    def test_tiny_steps_are_not_rounded_away(self):
        space = Space({"x": FloatDistribution(1e-12, 5e-12, step=1e-12)})
        values = [c["x"] for c in space.decode(space.level_positions(0)[:, None])]
        assert values == [1e-12, 2e-12, 3e-12, 4e-12, 5e-12]

    def test_very_many_levels_take_no_memory(self):
        space = Space({"seed": IntDistribution(0, 2**60)})
        assert space.decode(space.snap(np.array([[0.0], [1.0]]))) == [{"seed": 0}, {"seed": 2**60}]

    def test_levels(self):
        space = Space(
            {
                "continuous": FloatDistribution(0, 1),
                "single": FloatDistribution(2, 2),
                "stepped": FloatDistribution(0, 1, step=0.25),
                "int": IntDistribution(1, 9, step=2),
                "choice": CategoricalDistribution(["a", "b"]),
            }
        )
        assert space.levels == (0, 1, 5, 5, 2)


class TestInside:
    @pytest.mark.parametrize("position", [0.0, 0.3, 1.0, math.nan])
    def test_positions_within_the_bounds_and_inactive_ones_are_inside(self, position):
        assert Space.inside(np.array([[position]])).tolist() == [[True]]

    @pytest.mark.parametrize("position", [-0.5, -1e-6, 1.0 + 1e-6, 1.5, math.inf, -math.inf])
    def test_positions_beyond_the_bounds_are_outside(self, position):
        assert Space.inside(np.array([[position]])).tolist() == [[False]]

    def test_rounding_at_the_bounds_does_not_count(self):
        points = np.array([[-ROUNDING / 2, 1.0 + ROUNDING / 2], [-2 * ROUNDING, 1.0]])
        assert Space.inside(points).tolist() == [[True, True], [False, True]]


class TestKey:
    SPACE = Space(
        {
            "x": FloatDistribution(-3, 5),
            "lr": FloatDistribution(1e-5, 1, log=True),
            "layers": IntDistribution(1, 7, step=2),
            "act": CategoricalDistribution(["relu", None, 3, True]),
        }
    )

    @given(st.lists(positions, min_size=4, max_size=4))
    def test_a_configuration_keeps_its_key_when_it_is_encoded_again(self, position):
        points = self.SPACE.snap(np.array([position]))
        again = self.SPACE.snap(self.SPACE.encode(self.SPACE.decode(points)))
        assert self.SPACE.key(again[0]) == self.SPACE.key(points[0])

    def test_rounding_does_not_change_the_key(self):
        assert Space.key(np.array([0.1 + 0.2, 0.5])) == Space.key(np.array([0.3, 0.5]))

    def test_inactive_is_not_any_active_position(self):
        key = Space.key(np.array([0.2, np.nan]))
        assert key == Space.key(np.array([0.2, np.nan]))
        assert all(key != Space.key(np.array([0.2, other])) for other in (0.0, 0.5, 1.0))

    def test_the_order_of_positions_matters(self):
        assert Space.key(np.array([0.1, 0.2])) != Space.key(np.array([0.2, 0.1]))

    def test_neighbouring_levels_of_a_long_range_have_keys_of_their_own(self):
        space = Space({"n": IntDistribution(1, 10**6)})
        points = space.snap(space.encode([{"n": 500_000}, {"n": 500_001}]))
        assert len(set(map(space.key, points))) == 2


class TestCanonical:
    @given(spaces_with_points())
    def test_a_point_and_what_became_of_its_configuration_are_the_same(self, drawn):
        """What is suggested, run and read back has the key of what was suggested."""
        space, points = drawn
        points = space.canonical(points)
        assert not np.isnan(points).any()
        np.testing.assert_array_equal(space.canonical(points), points)
        again = space.canonical(space.encode(space.decode(points)))
        # A number of a range may lose its last digit, where rounding may fall either way.
        np.testing.assert_allclose(again, points, rtol=0, atol=1e-9)
        levels = np.asarray(space.levels, dtype=bool)
        for one, other in zip(points, again, strict=True):
            assert space.key(one[levels]) == space.key(other[levels])

    def test_what_is_not_known_is_put_at_a_level(self):
        space = TestConditions.NESTED
        points = space.canonical(np.array([[np.nan, np.nan, 0.1], [np.nan, np.nan, 0.9]]))
        np.testing.assert_array_equal(points, [[0.75, np.nan, 0.25], [np.nan, np.nan, 0.75]])

    def test_what_is_held_stays_as_it_is_and_decides_what_is_active(self):
        held = np.array([0.25, 1.3, np.nan])
        points = TestConditions.NESTED.canonical(
            np.array([[0.9, 0.1, 0.3], [0.9, 0.1, 0.9]]), held
        )
        np.testing.assert_array_equal(points, [[0.25, 1.3, 0.25], [np.nan, np.nan, 0.75]])

    def test_distinct_points_are_the_first_of_each_configuration(self):
        points = np.array([[0.5, np.nan], [0.2, 0.1], [0.5, np.nan], [0.2, 0.1 + 1e-12]])
        np.testing.assert_array_equal(Space.distinct(points), [1, 0])

    def test_adjacent_levels_are_one_step_away(self):
        space = Space({"n": IntDistribution(1, 10**9), "c": CategoricalDistribution("abc")})
        for at, others in [(1, [2]), (7, [6, 8]), (10**9, [10**9 - 1])]:
            (point,) = space.encode([{"n": at}])
            found = space.adjacent_levels(0, point[0])
            values = space.decode(np.stack([found, np.full(len(found), np.nan)], axis=1))
            assert [value["n"] for value in values] == others
        np.testing.assert_allclose(space.adjacent_levels(1, 0.5), [1 / 6, 5 / 6])


class TestConditions:
    OPTIMIZER = CategoricalDistribution(["sgd", "adam"])
    NESTED = Space(
        {
            "nesterov": CategoricalDistribution([True, False]),
            "damping": FloatDistribution(0, 1),
            "optimizer": OPTIMIZER,
        },
        {
            # The child stands before its parent, and its parent's parent comes last.
            "damping": Condition("nesterov", choices=(True,)),
            "nesterov": Condition("optimizer", choices=("sgd",)),
        },
    )

    def test_activate_decides_parents_first(self):
        points = self.NESTED.activate(
            np.array([[0.1, 0.3, 0.1], [0.1, 0.3, 0.9], [0.9, 0.3, 0.1]])
        )
        assert self.NESTED.decode(points) == [
            {"nesterov": True, "damping": pytest.approx(0.3), "optimizer": "sgd"},
            {"optimizer": "adam"},
            {"nesterov": False, "optimizer": "sgd"},
        ]

    def test_activate_fills_what_a_condition_admits(self):
        points = self.NESTED.activate(np.array([[0.1, np.nan, 0.1]]))
        assert not np.isnan(points).any()

    def test_conditions_need_their_hyperparameters(self):
        with pytest.raises(SpaceError, match="'optimizer'"):
            Space({"x": FloatDistribution(0, 1)}, {"x": Condition("optimizer", choices=("sgd",))})

    def test_with_conditions_drops_unknown_names(self):
        space = Space({"x": FloatDistribution(0, 1)}).with_conditions(self.NESTED.conditions)
        assert not space.conditions

    def test_circular_conditions_are_refused(self):
        two = {"a": self.OPTIMIZER, "b": self.OPTIMIZER}
        circular = {"a": Condition("b", ("sgd",)), "b": Condition("a", ("sgd",))}
        with pytest.raises(SpaceError, match="depend on each other"):
            Space(two, circular)


class TestInferConditions:
    def test_nested(self):
        space = Space(
            {
                "optimizer": CategoricalDistribution(["sgd", "adam"]),
                "nesterov": CategoricalDistribution([True, False]),
                "damping": FloatDistribution(0, 1),
            }
        )
        seen = [
            {"optimizer": "adam"},
            {"optimizer": "sgd", "nesterov": False},
            {"optimizer": "sgd", "nesterov": True, "damping": 0.5},
        ]
        assert infer_conditions([space], [seen]) == {
            "nesterov": Condition("optimizer", choices=("sgd",)),
            "damping": Condition("nesterov", choices=(True,)),
        }

    def test_number_of_layers(self):
        space = Space({"layers": IntDistribution(1, 3), "units_2": IntDistribution(8, 64)})
        seen = [{"layers": 1}, {"layers": 2, "units_2": 8}, {"layers": 3, "units_2": 64}]
        assert infer_conditions([space], [seen]) == {"units_2": Condition("layers", at_least=2)}

    def test_numbers_that_are_choices(self):
        space = Space({"k": CategoricalDistribution([1, 2, 4]), "x": FloatDistribution(0, 1)})
        seen = [{"k": 1, "x": 0.1}, {"k": 2}, {"k": 4, "x": 0.3}]
        assert infer_conditions([space], [seen]) == {"x": Condition("k", choices=(1, 4))}

    def test_what_no_single_parent_explains_has_no_condition(self):
        space = Space({"k": IntDistribution(1, 3), "x": FloatDistribution(0, 1)})
        seen = [{"k": 1, "x": 0.1}, {"k": 1}, {"k": 2}]
        assert infer_conditions([space], [seen]) == {}

    def test_a_task_without_the_hyperparameter_says_nothing(self):
        k, x = CategoricalDistribution(["a", "b"]), FloatDistribution(0, 1)
        both, without = Space({"k": k, "x": x}), Space({"k": k})
        seen = [[{"k": "a", "x": 0.1}, {"k": "b", "x": 0.2}], [{"k": "a"}]]
        assert infer_conditions([both, without], seen) == {}

    def test_joined_conditions_close_no_circle(self):
        preferred = {"a": Condition("b", choices=(1,))}
        others = {"a": Condition("c", choices=(1,)), "b": Condition("a", choices=(1,)),
                  "d": Condition("a", choices=(2,))}  # fmt: skip
        assert joined(preferred, others) == preferred | {"d": others["d"]}

    def test_values_that_cannot_be_compared_are_passed_over(self):
        space = Space({"k": IntDistribution(1, 3), "x": FloatDistribution(0, 1)})
        assert infer_conditions([space], [[{"k": [1], "x": 0.1}, {"k": [2]}]]) == {}


class TestParse:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (
                '{"name": "UniformDistribution", "attributes": {"low": 0, "high": 1}}',
                FloatDistribution(0, 1),
            ),
            (
                '{"name": "LogUniformDistribution", "attributes": {"low": 0.1, "high": 1}}',
                FloatDistribution(0.1, 1, log=True),
            ),
            (
                '{"name": "DiscreteUniformDistribution",'
                ' "attributes": {"low": 0, "high": 1, "q": 0.5}}',
                FloatDistribution(0, 1, step=0.5),
            ),
            (
                '{"name": "IntUniformDistribution",'
                ' "attributes": {"low": 1, "high": 3, "step": 2}}',
                IntDistribution(1, 3, step=2),
            ),
            (
                '{"name": "IntLogUniformDistribution",'
                ' "attributes": {"low": 1, "high": 8, "step": 1}}',
                IntDistribution(1, 8, log=True),
            ),
        ],
    )
    def test_distributions_of_former_versions(self, text, expected):
        assert parse_distribution(text) == expected

    def test_equal_texts_are_parsed_once(self):
        text = distribution_to_json(FloatDistribution(0, 1))
        assert parse_distribution(text) is parse_distribution(text)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "X", "attributes": {}}', "1"])
    def test_what_is_no_distribution_is_refused(self, text):
        with pytest.raises(SpaceError, match="not the JSON text of a distribution"):
            parse_distribution(text)

    def test_other_distributions_are_refused(self):
        with pytest.raises(SpaceError, match="'x'"):
            Space({"x": object()})  # type: ignore[dict-item]
