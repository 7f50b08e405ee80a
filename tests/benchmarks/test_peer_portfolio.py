"""Configurations that a careful user would enqueue first."""

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

pytest.importorskip("onnxruntime", reason="the benchmarks need metahpo[bench]")

from benchmarks.peers.portfolio import best_of_each, greedy, portfolio
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial


class TestPortfolio:
    def test_greedy_prefers_what_does_well_on_average_then_what_complements(self):
        regrets = np.array([[0.0, 0.9, 0.3], [0.9, 0.0, 0.3], [0.2, 0.9, 0.3]])
        assert greedy(regrets, 3) == [2, 0, 1]

    def test_a_portfolio_holds_configurations_that_past_tasks_tried(self):
        space = _line()
        rng = np.random.default_rng(0)
        tasks = [_parabola(space, optimum, rng) for optimum in (0.2, 0.25, 0.9)]
        chosen = [configuration["x"] for configuration in portfolio(tasks, space)]
        seen = [trial.configuration["x"] for task in tasks for trial in task.trials]
        assert len(chosen) == 8
        assert all(np.isclose(x, seen).any() for x in chosen)
        assert min(abs(x - 0.9) for x in chosen[:2]) < 0.1
        assert min(abs(x - 0.22) for x in chosen[:2]) < 0.1

    def test_the_best_of_each_task_comes_once(self):
        space = _line()
        tasks = [_parabola(space, optimum, np.random.default_rng(0)) for optimum in (0.9, 0.2)]
        chosen = [configuration["x"] for configuration in best_of_each([*tasks, tasks[0]], space)]
        best = [max(task.trials, key=lambda t: t.value).configuration["x"] for task in tasks]
        np.testing.assert_allclose(chosen, best)


def _line():
    return Space({"x": FloatDistribution(0.0, 1.0)})


def _parabola(space, optimum, rng) -> Task:
    trials = tuple(Trial({"x": x}, -((x - optimum) ** 2)) for x in rng.random(40))
    return Task(f"parabola-{optimum}", space, trials)
