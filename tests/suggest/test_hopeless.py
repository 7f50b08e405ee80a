"""What is called hopeless: against a plain reference, part by part, and what is left unsaid."""

import math
from collections.abc import Mapping
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
)
from scipy.stats import qmc

from metahpo.settings import SearchSettings
from metahpo.suggest.decision import Part
from metahpo.suggest.hopeless import hopeless_part
from metahpo.tasks.space import Condition, Space

# The time a case takes says nothing on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SETTINGS = SearchSettings()
GOOD, HOPELESS = 0.5, SETTINGS.hopeless_probability / 2
UNIT = FloatDistribution(0, 1)
CHOICE = CategoricalDistribution(["a", "b", "c"])


def sobol(space: Space, count: int = 512, seed: int = 0) -> np.ndarray:
    points = qmc.Sobol(len(space), rng=np.random.default_rng(seed)).random(count)
    return space.activate(space.snap(points))


def values_of(parts: Mapping[str, Part]) -> dict[str, tuple[Any, ...]]:
    return {name: part.ranges or part.choices for name, part in parts.items()}


def found_for(distribution: BaseDistribution, is_hopeless, count: int = 512) -> Any:
    """What is hopeless of one hyperparameter where ``is_hopeless(value)`` says so."""
    space = Space({"it": distribution})
    samples = sobol(space, count)
    values = [configuration["it"] for configuration in space.decode(samples)]
    probabilities = np.array([HOPELESS if is_hopeless(value) else GOOD for value in values])
    return values_of(hopeless_part(space, samples, probabilities, SETTINGS)).get("it")


# ---- ranges --------------------------------------------------------------------------------


def test_neighbouring_parts_are_joined():
    found = found_for(FloatDistribution(0, 10), lambda x: x < 3 or 5 < x < 6 or x > 8)
    assert found == (
        (pytest.approx(0), pytest.approx(3)),
        (pytest.approx(5), pytest.approx(6)),
        (pytest.approx(8), pytest.approx(10)),
    )


def test_a_part_with_one_promising_point_is_not_hopeless():
    """From 2.5 on all is promising: the part from 2 to 3 is not called hopeless."""
    assert found_for(FloatDistribution(0, 10), lambda x: x < 2.5) == (
        (pytest.approx(0), pytest.approx(2)),
    )


def test_parts_are_equal_on_the_logarithmic_scale_and_given_on_the_natural_one():
    found = found_for(FloatDistribution(1e-10, 1, log=True), lambda lr: lr > 1e-3)
    assert found == ((pytest.approx(1e-3), pytest.approx(1.0)),)


def test_integers_are_judged_one_by_one_and_both_ends_are_hopeless():
    found = found_for(IntDistribution(1, 6), lambda n: n in (1, 2, 5))
    assert found == ((1, 2), (5, 5))
    assert {type(end) for part in found for end in part} == {int}


@pytest.mark.parametrize(
    "distribution",
    [
        IntDistribution(1, 4, log=True),
        IntDistribution(1, 64, log=True),
        IntDistribution(1, 15),
        IntDistribution(0, 100),
        FloatDistribution(0, 1, step=0.05),
    ],
    ids=str,
)
def test_no_level_of_a_range_is_promising_wherever_parts_end(distribution):
    space = Space({"it": distribution})
    values = sorted({configuration["it"] for configuration in space.decode(sobol(space))})
    for bound in values[1:]:
        found = found_for(distribution, lambda value, bound=bound: value < bound) or ()
        assert all(low <= high < bound for low, high in found)
    assert found_for(distribution, lambda _: True) is None


def test_steps_are_kept():
    assert found_for(IntDistribution(1, 9, step=2), lambda n: n >= 5) == ((5, 9),)
    stepped = FloatDistribution(0, 1, step=0.25)
    assert found_for(stepped, lambda x: x <= 0.25) == ((0.0, 0.25),)


# ---- choices -------------------------------------------------------------------------------


def test_hopeless_choices_are_named():
    choices = CategoricalDistribution(["relu", None, 3, True])
    assert found_for(choices, lambda c: c in ("relu", None)) == ("relu", None)
    assert found_for(choices, lambda c: c is True) == (True,)


def test_every_other_hyperparameter_counts():
    """A choice is hopeless where nothing makes up for it; here a good x does for "b"."""
    space = Space({"c": CHOICE, "x": UNIT})
    samples = sobol(space)
    c, x = samples.T
    hopeless = (c < 1 / 3) | (c < 2 / 3) & (x < 0.75)
    found = values_of(hopeless_part(space, samples, np.where(hopeless, HOPELESS, GOOD), SETTINGS))
    assert found == {"c": ("a",)}


# ---- what is left unsaid -------------------------------------------------------------------

MIXED = Space(
    {
        "x": FloatDistribution(-3, 5),
        "lr": FloatDistribution(1e-5, 1, log=True),
        "layers": IntDistribution(1, 4),
        "c": CHOICE,
        "only": CategoricalDistribution(["one"]),
        "same": FloatDistribution(2, 2),
        "momentum": UNIT,
    },
    {"momentum": Condition("c", choices=("b", "c"))},
)


@pytest.mark.parametrize("probability", [GOOD, HOPELESS])
def test_where_nothing_or_everything_is_hopeless_nothing_is_said(probability):
    samples = sobol(MIXED)
    assert hopeless_part(MIXED, samples, np.full(512, probability), SETTINGS) == {}


def test_the_bound_itself_is_not_hopeless():
    samples = sobol(MIXED)
    at_bound = np.where(samples[:, 0] < 0.5, SETTINGS.hopeless_probability, GOOD)
    assert hopeless_part(MIXED, samples, at_bound, SETTINGS) == {}


def test_of_parts_with_too_few_samples_nothing_is_said():
    space = Space({"x": UNIT})
    least = SETTINGS.hopeless_samples
    crowded, sparse = np.full(least, 0.05), np.full(least - 1, 0.15)
    samples = np.concatenate([crowded, sparse, np.full(least, 0.95)])[:, None]
    probabilities = np.where(samples[:, 0] < 0.5, HOPELESS, GOOD)
    found = values_of(hopeless_part(space, samples, probabilities, SETTINGS))
    assert found == {"x": ((0.0, pytest.approx(0.1)),)}


def test_of_no_samples_nothing_is_said():
    assert hopeless_part(MIXED, np.empty((0, 7)), np.empty(0), SETTINGS) == {}


def test_only_where_a_hyperparameter_is_active_it_is_judged():
    """Momentum is hopeless above a half; where it is inactive all is promising."""
    samples = sobol(MIXED)
    momentum = samples[:, 6]
    assert np.isnan(momentum).any()
    probabilities = np.where(momentum > 0.5, HOPELESS, GOOD)
    found = values_of(hopeless_part(MIXED, samples, probabilities, SETTINGS))
    assert found == {"momentum": ((pytest.approx(0.5), 1.0),)}


def test_a_hyperparameter_that_is_always_inactive_is_left_out():
    samples = np.column_stack([np.linspace(0, 1, 512), np.full(512, np.nan)])
    space = Space({"x": UNIT, "y": UNIT})
    probabilities = np.where(samples[:, 0] < 0.35, HOPELESS, GOOD)
    assert hopeless_part(space, samples, probabilities, SETTINGS).keys() == {"x"}


# ---- against a plain reference -------------------------------------------------------------


def plain(space: Space, samples: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """One hyperparameter, one part, one sample at a time."""
    found: dict[str, Any] = {}
    for column, name in enumerate(space.names):
        levels, categorical = space.levels[column], space.is_categorical[column]
        parts = levels or SETTINGS.hopeless_intervals
        hopeless = []
        for part in range(parts):
            inside = [
                probability
                for position, probability in zip(samples[:, column], probabilities, strict=True)
                if not math.isnan(position)
                and min(math.floor(position * parts), parts - 1) == part
            ]
            enough = len(inside) >= SETTINGS.hopeless_samples
            hopeless.append(enough and max(inside) < SETTINGS.hopeless_probability)
        if not any(hopeless) or all(hopeless):
            continue
        if categorical:
            choices = space.distributions[name].choices
            found[name] = tuple(c for c, bad in zip(choices, hopeless, strict=True) if bad)
            continue
        ranges: list[list[int]] = []
        for part, bad in enumerate(hopeless):
            if bad and part and hopeless[part - 1]:
                ranges[-1][1] = part
            elif bad:
                ranges.append([part, part])
        ends = [e / parts for first, last in ranges for e in (first, last + 1)]
        if levels:
            ends = [(e + 0.5) / parts for first, last in ranges for e in (first, last)]
        point = np.full((len(ends), len(space)), np.nan)
        point[:, column] = ends
        values = [configuration[name] for configuration in space.decode(point)]
        found[name] = tuple(zip(values[::2], values[1::2], strict=True))
    return found


@given(st.integers(0, 1000), st.integers(1, 300), st.floats(0, 1))
def test_it_agrees_with_a_plain_reference(seed, count, share):
    """Where patches of the space are hopeless and others are not."""
    rng = np.random.default_rng(seed)
    samples = MIXED.activate(MIXED.snap(rng.random((count, len(MIXED)))))
    score = np.nan_to_num(samples, nan=0.5) @ rng.standard_normal(len(MIXED))
    probabilities = np.where(score < np.quantile(score, share), HOPELESS, GOOD)
    found = values_of(hopeless_part(MIXED, samples, probabilities, SETTINGS))
    assert found == plain(MIXED, samples, probabilities)
