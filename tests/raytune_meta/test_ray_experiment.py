"""Reading Ray Tune's experiments: folders as Ray writes them, whole and broken."""

import math
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from support.ray_folders import START, params, write_trial

from metahpo.archive import ReadOptions, SourceError, SourceWarning, UnrecognisedSourceError
from metahpo.tasks.task import Task, TrialState
from raytune_meta import read_experiment
from raytune_meta.experiment import NoTrialsYetError, RayReader
from raytune_meta.inferred_space import infer_space

OPTIONS = ReadOptions("eval/acc", "max")


def read(source: str, options: ReadOptions = OPTIONS) -> list[Task]:
    return RayReader().read(source, options)


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """Two trials of three reports, and what Ray writes beside them."""
    folder = tmp_path / "train_2025-03-01_12-00-00"
    for number in (1, 2):
        write_trial(folder, number, params(number), [0.1 * number, 0.2 * number, 0.3 * number])
    (folder / "tuner.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    (folder / "experiment_state-2025.json").write_text("{}")
    (folder / "logs").mkdir()
    return folder


class TestTask:
    def test_an_experiment_becomes_a_task_with_curves_costs_and_times(self, experiment):
        task = read_experiment(experiment, "eval/acc", "max")
        assert task.name == "train_2025-03-01_12-00-00"
        assert task.source == str(experiment)
        assert task.created == START + 100
        first = task.trials[0]
        assert first.configuration == {"model/lr": 0.1, "model/layers": 1}
        assert first.value == pytest.approx(0.3)
        assert first.curve == ((1.0, 0.1), (2.0, 0.2), (3.0, pytest.approx(0.3)))
        assert first.state is TrialState.COMPLETE
        assert (first.cost, first.started, first.finished) == (3.0, START + 100, START + 103)

    def test_values_of_a_minimised_metric_change_sign(self, experiment):
        task = read_experiment(experiment, "eval/acc", "min")
        assert [trial.value for trial in task.trials] == pytest.approx([-0.3, -0.6])
        assert task.trials[0].curve[0] == (1.0, -0.1)

    def test_a_trial_shorter_than_the_longest_counts_as_pruned(self, experiment):
        write_trial(experiment, 3, params(3), [0.5])
        last = read_experiment(experiment, "eval/acc", "max").trials[-1]
        assert last.state is TrialState.PRUNED
        assert last.value == 0.5

    def test_the_later_report_of_an_iteration_counts(self, experiment):
        write_trial(experiment, 3, params(3), [0.1, 0.2, 0.25, 0.4], [1, 2, 2, 3])
        last = read_experiment(experiment, "eval/acc", "max").trials[-1]
        assert last.curve == ((1.0, 0.1), (2.0, 0.25), (3.0, 0.4))
        assert last.state is TrialState.COMPLETE

    @pytest.mark.parametrize("value", [math.nan, math.inf, None, "text", True])
    def test_a_last_value_that_is_not_finite_is_a_failure(self, experiment, value):
        write_trial(experiment, 3, params(3), [0.1, 0.2, value])
        last = read_experiment(experiment, "eval/acc", "max").trials[-1]
        assert last.state is TrialState.FAILED
        assert last.value is None

    def test_an_error_after_the_last_result_is_a_failure(self, experiment):
        failed = write_trial(experiment, 3, params(3), [0.1, 0.2, 0.3])
        (failed / "error.txt").write_text("Failure # 1 (occurred at 2025-03-01_12-00-03)\nboom")
        assert read_experiment(experiment, "eval/acc", "max").failed[0].value is None

    def test_an_error_before_the_last_result_is_not_a_failure(self, experiment):
        recovered = write_trial(experiment, 3, params(3), [0.1, 0.2, 0.3])
        (recovered / "error.txt").write_text("Failure # 1 (occurred at 2025-03-01_12-00-02)\n")
        assert not read_experiment(experiment, "eval/acc", "max").failed

    def test_a_trial_without_reports_is_running_unless_it_has_an_error(self, experiment):
        running = write_trial(experiment, 3, params(3), [])
        (running / "result.json").unlink()
        failed = write_trial(experiment, 4, params(4), [])
        (failed / "error.txt").write_text("Failure # 1 (occurred at 2025-03-01_12-00-02)\n")
        task = read_experiment(experiment, "eval/acc", "max")
        assert [t.configuration["model/layers"] for t in task.running] == [3]
        assert [t.configuration["model/layers"] for t in task.failed] == [4]

    def test_a_metric_that_is_not_nested_is_read(self, experiment):
        assert read_experiment(experiment, "loss", "min").trials[0].value == -1.0

    def test_reading_imports_neither_ray_nor_torch_and_opens_no_pickle(self, experiment):
        program = (
            "import sys\n"
            "from raytune_meta import read_experiment\n"
            "read_experiment(sys.argv[1], 'eval/acc', 'max')\n"
            "assert 'ray' not in sys.modules and 'torch' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-c", program, str(experiment)], check=True)


class TestBroken:
    def test_a_truncated_line_is_skipped_with_a_warning(self, experiment):
        folder = write_trial(experiment, 3, params(3), [0.1, 0.2, 0.3])
        text = (folder / "result.json").read_text()
        (folder / "result.json").write_text(text[:-40])
        with pytest.warns(SourceWarning, match=r"1 broken line \(first line 3\) of .*_00003_"):
            task = read_experiment(experiment, "eval/acc", "max")
        assert task.trials[-1].value == 0.2

    @pytest.mark.parametrize("text", ["", "{", "[1]"])
    def test_a_trial_with_broken_parameters_is_skipped_with_a_warning(self, experiment, text):
        folder = write_trial(experiment, 3, params(3), [0.1])
        (folder / "params.json").write_text(text)
        with pytest.warns(SourceWarning, match=r"skipped in .*: trial .*_00003_.*params\.json"):
            task = read_experiment(experiment, "eval/acc", "max")
        assert len(task.trials) == 2

    @pytest.mark.parametrize("metric", [None, "acc"])
    def test_the_error_says_which_metrics_there_are(self, experiment, metric):
        with pytest.raises(SourceError, match=r"--metric.*'eval/acc', 'loss'$") as caught:
            read_experiment(experiment, metric, "max")
        assert not isinstance(caught.value, UnrecognisedSourceError)

    @pytest.mark.parametrize("mode", [None, "maximize"])
    def test_the_error_says_which_modes_there_are(self, experiment, mode):
        with pytest.raises(SourceError, match=r"--mode.*'max' or 'min'"):
            read_experiment(experiment, "eval/acc", mode)

    def test_another_folder_is_not_recognised(self, tmp_path):
        for path in (tmp_path, tmp_path / "missing"):
            with pytest.raises(UnrecognisedSourceError, match="not the folder of"):
                read_experiment(path, "eval/acc", "max")

    def test_trials_that_are_all_alike_are_an_error(self, tmp_path):
        write_trial(tmp_path / "x", 1, params(1), [0.1])
        with pytest.raises(SourceError, match="all 1 trials have the same parameters"):
            read_experiment(tmp_path / "x", "eval/acc", "max")


class TestReader:
    def test_the_folder_of_an_experiment_is_one_task(self, experiment):
        (task,) = read(str(experiment))
        assert task == read_experiment(experiment, "eval/acc", "max")

    def test_a_folder_of_experiments_is_a_task_for_each(self, experiment):
        for number in (1, 2):
            write_trial(experiment.parent / "another", number, params(number), [0.5])
        tasks = read(str(experiment.parent))
        assert [task.name for task in tasks] == ["another", "train_2025-03-01_12-00-00"]

    def test_a_warning_names_experiments_that_cannot_be_read(self, experiment):
        write_trial(experiment.parent / "single", 1, params(1), [0.5])
        with pytest.warns(SourceWarning, match="skipped .*single"):
            tasks = read(str(experiment.parent))
        assert len(tasks) == 1

    def test_a_folder_of_which_no_experiment_can_be_read_is_an_error(self, experiment):
        with pytest.raises(SourceError, match="requires a metric"):
            read(str(experiment.parent), ReadOptions())

    @pytest.mark.parametrize("marker", [".validate_storage_marker", "tuner.pkl"])
    def test_a_folder_of_experiments_without_trials_is_an_error_of_its_own(self, tmp_path, marker):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / marker).write_bytes(b"")
        with pytest.raises(NoTrialsYetError, match=f"no Ray Tune experiment in {tmp_path} has"):
            read(str(tmp_path))
        with pytest.raises(UnrecognisedSourceError):
            read(str(tmp_path / "run"))


class TestInferredSpace:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([0.1, 0.5], FloatDistribution(0.1, 0.5)),
            ([0.001, 0.1], FloatDistribution(0.001, 0.1, log=True)),
            ([-0.001, 0.1], FloatDistribution(-0.001, 0.1)),
            ([0.0, 100.0], FloatDistribution(0.0, 100.0)),
            ([1, 0.5], FloatDistribution(0.5, 1.0)),
            ([32, 64], IntDistribution(32, 64)),
            ([1, 100], IntDistribution(1, 100, log=True)),
            ([0, 100], IntDistribution(0, 100)),
            ([True, False], CategoricalDistribution([True, False])),
            (["a", "b", "a"], CategoricalDistribution(["a", "b"])),
            ([None, 3], CategoricalDistribution([None, 3])),
            ([True, 1], CategoricalDistribution([True, 1])),
            ([1, 1.0], None),
            (["a", "a"], None),
            ([str(i) for i in range(10)], CategoricalDistribution([str(i) for i in range(10)])),
            ([str(i) for i in range(11)], None),
        ],
    )
    def test_a_distribution_is_inferred_from_the_values(self, values, expected):
        space = infer_space([{"x": value} for value in values])
        assert space.distributions.get("x") == expected

    def test_a_parameter_that_only_some_trials_have_is_in_the_space(self):
        space = infer_space([{"x": 1}, {"x": 2, "y": 0.5}, {"x": 3, "y": 0.75}])
        assert space.names == ("x", "y")

    def test_lists_become_choices_among_json_strings(self, tmp_path):
        for number, layers in enumerate([[8, 8], [16], [8, 8]]):
            write_trial(tmp_path / "x", number, {"layers": layers}, [0.1])
        task = read_experiment(tmp_path / "x", "eval/acc", "max")
        assert task.space.distributions["layers"] == CategoricalDistribution(["[8, 8]", "[16]"])
        assert task.trials[1].configuration == {"layers": "[16]"}


class TestUrls:
    @pytest.fixture
    def bucket(self, experiment):
        """The same experiment on an object store, as fsspec shows it."""
        root = f"/bucket/{uuid.uuid4().hex}"
        store = fsspec.filesystem("memory")
        store.put(str(experiment), f"{root}/{experiment.name}", recursive=True)
        yield f"memory:/{root}"
        store.rm(root, recursive=True)

    def test_an_experiment_at_a_url_equals_the_one_on_disk(self, bucket, experiment):
        there = read_experiment(f"{bucket}/{experiment.name}", "eval/acc", "max")
        here = read_experiment(experiment, "eval/acc", "max")
        assert there.source == f"{bucket}/{experiment.name}"
        assert replace(there, source=here.source) == here

    def test_a_folder_of_experiments_at_a_url_is_read(self, bucket, experiment):
        (task,) = read(bucket)
        assert task.name == experiment.name

    def test_a_url_of_nothing_is_not_recognised(self, bucket):
        for url in (f"{bucket}/nothing", f"{bucket}/nothing/"):
            with pytest.raises(SourceError, match="not the folder of"):
                read(url)

    def test_an_unknown_scheme_is_an_error_that_names_it(self):
        with pytest.raises(UnrecognisedSourceError, match="nosuch"):
            read("nosuch://bucket/run")
