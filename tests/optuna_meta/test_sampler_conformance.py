"""Optuna's own suites for samplers, on MetaSampler without and with a history."""

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)
from support.quick import QUICK

from metahpo import Space, Task, Trial
from optuna_meta import MetaSampler


def past_task(name: str, best_x: float) -> Task:
    """A task whose hyperparameters have names that the suites use, and others."""
    space = Space(
        {
            "x": FloatDistribution(-10, 10),
            "y": FloatDistribution(-10, 10),
            "unknown": CategoricalDistribution(["a", "b"]),
        }
    )
    points = np.random.default_rng(0).random((12, 3))
    trials = [Trial(c, -abs(c["x"] - best_x) - abs(c["y"])) for c in space.decode(points)]
    return Task(name, space, tuple(trials))


PAST = [past_task("first", best_x=2.0), past_task("second", best_x=3.0)]


class _AllSuites(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    pass


class TestWithoutHistory(_AllSuites):
    @pytest.fixture
    def sampler(self):
        return lambda: MetaSampler(seed=0)


class TestWithHistory(_AllSuites):
    @pytest.fixture
    def sampler(self):
        return lambda: MetaSampler(history=PAST, settings=QUICK, seed=0)
