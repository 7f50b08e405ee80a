"""Histories that a compared method may learn from."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the benchmarks need metahpo[bench]")

from support.benchmark_data import needs_data

from benchmarks.foreign import ForeignSpace
from benchmarks.histories import GOOD, LARGE, history
from benchmarks.problems import YAHPO, load_family, load_problem, space_of, split
from metahpo.tasks.alignment import match_names

pytestmark = pytest.mark.usefixtures("fresh_cache")


@needs_data
class TestHistories:
    def test_the_small_history_has_three_tasks_of_thirty_trials(self):
        tasks = history("small", "rpart")
        assert [len(task.observed) for task in tasks] == [30, 30, 30]
        assert history("small", "rpart") == tasks

    def test_a_negated_history_has_every_value_with_its_sign_turned(self, monkeypatch):
        monkeypatch.setattr("benchmarks.histories.GOOD", _short(GOOD))
        for good, bad in zip(history("good", "rpart"), history("negated", "rpart"), strict=True):
            assert [t.value for t in bad.trials] == [-t.value for t in good.trials]

    def test_another_familys_tasks_take_the_present_names_and_bounds(self, monkeypatch):
        monkeypatch.setattr("benchmarks.histories.GOOD", _short(GOOD))
        space = load_family("xgboost").space
        for task in history("other-family", "xgboost"):
            assert task.name.startswith("lcbench/")
            for trial in task.trials:
                assert ("skip_drop" in trial.configuration) == (
                    trial.configuration["booster"] == "dart"
                )
                for name, value in trial.configuration.items():
                    distribution = space.distributions[name]
                    assert distribution._contains(distribution.to_internal_repr(value))

    def test_no_history_has_no_tasks(self):
        assert history("none", "rpart") == []

    def test_the_large_history_has_all_tasks(self, monkeypatch):
        monkeypatch.setattr("benchmarks.histories.LARGE", replace(LARGE, random=2, tpe=1))
        tasks = history("large", "lcbench")
        known = {f"lcbench/{task}" for task in split("lcbench").history}
        assert {task.name for task in tasks} == known
        assert {len(task.trials) for task in tasks} == {3}

    @pytest.mark.parametrize("family", YAHPO)
    def test_another_space_overlaps_and_differs(self, family, monkeypatch):
        monkeypatch.setattr("benchmarks.histories.GOOD", _short(GOOD))
        own = space_of(family)
        for task in history("other-space", family):
            assert len(own) - len(task.space) == min(2, max(len(_free(own)) - 2, 0))
            matches = match_names(task.space, own)
            assert len(matches) == len(task.space)  # the renamed one is found by its synonym
            assert any(past != name for past, name in matches.items())
            assert any(task.space.distributions[p] != own.distributions[n] for p, n in
                       matches.items())  # fmt: skip

    def test_another_space_has_the_values_of_the_problem(self):
        problem = load_problem("xgboost", split("xgboost").history[0])
        foreign = ForeignSpace(problem)
        for configuration in foreign.sample(20, np.random.default_rng(0)):
            (value,) = foreign.evaluate([configuration])
            own = problem.space.decode(np.full((1, len(problem.space)), 0.5))[0]
            matches = match_names(foreign.space, problem.space)
            own |= {matches[name]: v for name, v in configuration.items()}
            np.testing.assert_allclose(value, problem.evaluate([problem.active(own)]), atol=1e-6)


def _free(space):
    parents = {condition.parent for condition in space.conditions.values()}
    return [name for name in space if name not in space.conditions and name not in parents]


def _short(recipe):
    return type(recipe)(tasks=2, random=4, tpe=2)
