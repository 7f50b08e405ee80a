"""Suggestions do not depend on the unit of the values, of the study's or of the past's."""

import warnings
from functools import cache

import numpy as np
import pytest
from support.forest_surrogate import ForestFamily
from support.problems import CONDITIONAL, PLANE, bowl, history_of, random_task

from metahpo.settings import PolicySettings, PortfolioSettings
from metahpo.suggest.decision import Decision, Source
from metahpo.suggest.policy import suggest
from metahpo.surrogate.registry import register_surrogate, surrogate_names
from metahpo.tasks.task import Task, Trial

FOREST = "forest of another unit"
# From subnormal numbers to the largest ones.
EXPONENTS = [-1050, -400, 1000]
SETTINGS = PolicySettings(portfolio=PortfolioSettings(trees=20))
HISTORY = history_of(bowl(0.3, 0.6), bowl(0.35, 0.55), n=8)
STUDY = random_task(bowl(0.3, 0.6), n=9, seed=7)


@pytest.fixture(autouse=True, scope="module")
def _forest():
    if FOREST not in surrogate_names():
        register_surrogate(FOREST, ForestFamily)


def in_unit(task: Task, exponent: int) -> Task:
    """A task's trials with values times a power of two; before, the better half is below 1."""
    better = sorted({t.value for t in task.observed})[len(task.observed) // 2 :]
    scale = 2.0 ** -np.frexp(np.abs(better).max())[1]
    trials = tuple(
        Trial(t.configuration, float(np.ldexp(t.value * scale, exponent))) for t in task.trials
    )
    return Task(task.name, task.space, trials, task.metafeatures)


def decide(surrogate: str, study: Task, history: list[Task]) -> Decision:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        return suggest(study, history, seed=3, surrogate=surrogate, settings=SETTINGS)


@cache
def plain(surrogate: str, with_history: bool) -> Decision:
    history = [in_unit(past, 0) for past in HISTORY] if with_history else []
    return decide(surrogate, in_unit(STUDY, 0), history)


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("surrogate", [*surrogate_names(), FOREST])
def test_a_study_without_history_decides_alike_in_every_unit(surrogate, exponent):
    decision, expected = decide(surrogate, in_unit(STUDY, exponent), []), plain(surrogate, False)
    # Subnormal values have lost digits.
    assert_alike(decision, expected, exponent, exact=exponent > -1000)


@pytest.mark.parametrize(("own", "past"), [(0, -700), (900, 0), (-700, -700)])
@pytest.mark.parametrize("surrogate", [*surrogate_names(), FOREST])
def test_a_study_with_history_decides_alike_in_every_unit(surrogate, own, past):
    history = [in_unit(task, past) for task in HISTORY]
    decision = decide(surrogate, in_unit(STUDY, own), history)
    assert_alike(decision, plain(surrogate, True), own, exact=True)


def assert_alike(decision: Decision, expected: Decision, exponent: int, *, exact: bool) -> None:
    assert decision.source is expected.source is Source.ACQUISITION
    (found,), (configuration,) = decision.configurations, expected.configurations
    if exact:
        assert found == configuration
        assert decision.trust == expected.trust
        assert decision.mean == np.ldexp(expected.mean, exponent)
        assert decision.deviation == np.ldexp(expected.deviation, exponent)
    else:
        assert found == pytest.approx(configuration, abs=1e-3)


@pytest.mark.parametrize("values", [[1e8 + 1e-3 * i for i in range(8)], [3e-310] * 8, [0.0] * 8])
@pytest.mark.parametrize("history", [[], [in_unit(task, -1050) for task in HISTORY]])
def test_offsets_and_equal_values_are_decided_on(values, history):
    trials = zip(STUDY.trials, values, strict=False)
    study = Task("present", PLANE, tuple(Trial(t.configuration, v) for t, v in trials))
    assert decide("gp", study, history).configurations


def test_the_first_suggestion_of_a_tiny_or_huge_history_is_that_of_an_ordinary_one():
    past = random_task(lambda c: -abs(np.log10(c["lr"]) + 2), CONDITIONAL)
    nothing = Task("present", CONDITIONAL)
    first = [
        suggest(nothing, [in_unit(past, exponent)], settings=SETTINGS).configurations
        for exponent in (0, -700, 1000)
    ]
    assert first[0] == first[1] == first[2]
