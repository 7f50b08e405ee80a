"""Distributions as others wrote them: each can be computed with, or is a SpaceError."""

import itertools
import warnings

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution

from metahpo.tasks.distributions import SpaceError, parse_distribution
from metahpo.tasks.space import Condition, Space

HUGE = "1" + "0" * 400
BOUNDS = ("0", "0.5", "-1", "1e300", "-1e308", "5e-324", "Infinity", "NaN", HUGE, '"x"', "null")
STEPS = ("null", "1", "0.1", "5e-324", "1e300", "Infinity", "-1", HUGE, "[]")


def check_usable(distribution: BaseDistribution) -> None:
    """Everything that the search does with a distribution."""
    space = Space({"x": distribution})
    values = (0, -1, 1e300, -1e308, 5e-324, float("nan"), float("inf"), int(HUGE), True, None, "a")
    points = space.encode([{"x": value} for value in values])
    assert len(space.levels) == 1
    unit = np.linspace(0, 1, 5)[:, None]
    for configuration in space.decode(unit):
        assert distribution._contains(distribution.to_internal_repr(configuration["x"]))
    assert space.activate(space.snap(np.concatenate([points, unit]))).shape == (16, 1)


# 8,712 texts, of which 204 are usable.
@pytest.mark.parametrize("log", ["true", "false", "1", '"no"'])
@pytest.mark.parametrize("kind", ["Float", "Int"])
@pytest.mark.filterwarnings("ignore:The distribution is specified by:UserWarning")
def test_whatever_the_bounds_and_steps_a_distribution_is_usable_or_an_error(kind, log):
    for low, high, step in itertools.product(BOUNDS, BOUNDS, STEPS):
        attributes = f'{{"low": {low}, "high": {high}, "step": {step}, "log": {log}}}'
        try:
            distribution = parse_distribution.__wrapped__(
                f'{{"name": "{kind}Distribution", "attributes": {attributes}}}'
            )
        except SpaceError:
            continue
        check_usable(distribution)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "[" * 100_000,
        '{"name": "NoDistribution", "attributes": {}}',
        '{"name": ["CategoricalDistribution"], "attributes": {"choices": [1]}}',
        '{"name": "CategoricalDistribution", "attributes": {"choices": []}}',
        '{"name": "CategoricalDistribution", "attributes": {"choices": 1}}',
        '{"name": "CategoricalDistribution", "attributes": null}',
        f'{{"name": "CategoricalDistribution", "attributes": {{"choices": [1, {HUGE}]}}}}',
        f'{{"name": "CategoricalDistribution", "attributes": {{"choices": [1, [{HUGE}]]}}}}',
        '{"name": "UniformDistribution", "attributes": {"low": 1}}',
        '{"name": "UniformDistribution", "attributes": {"low": -1e308, "high": 1e308}}',
    ],
)
@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution:UserWarning")
def test_another_text_is_an_error_of_bounded_length(text):
    with pytest.raises(SpaceError, match="not the JSON text of a distribution") as caught:
        parse_distribution(text)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("depth", [1, 8, 9, 900, 100_000])
def test_choices_are_nested_eight_times_at_most(depth):
    choices = f'{{"choices": ["a", {"[" * depth}{"]" * depth}]}}'
    text = f'{{"name": "CategoricalDistribution", "attributes": {choices}}}'
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if depth > 8:
            with pytest.raises(SpaceError):
                parse_distribution(text)
        else:
            assert isinstance(parse_distribution(text), CategoricalDistribution)


def test_a_value_too_large_for_a_float_has_no_place_among_choices():
    space = Space({"x": CategoricalDistribution([1, 2.5, "a"])})
    assert np.isnan(space.encode([{"x": int(HUGE)}])).all()


@pytest.mark.parametrize("length", [1, 2, 1000])
def test_conditions_that_depend_on_each_other_are_an_error(length):
    distribution = CategoricalDistribution([0, 1])
    names = [f"x{i}" for i in range(length)]
    parents = dict(zip(names, [*names[1:], names[0]], strict=True))
    conditions = {name: Condition(parent, choices=(1,)) for name, parent in parents.items()}
    with pytest.raises(SpaceError, match="depend on each other"):
        Space(dict.fromkeys(names, distribution), conditions)
    del conditions[names[-1]]
    Space(dict.fromkeys(names, distribution), conditions)
