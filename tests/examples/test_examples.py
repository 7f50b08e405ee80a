"""The examples run as a user runs them, and the archives that they ship are complete."""

import subprocess
import sys
from pathlib import Path

import pytest

from metahpo.archive import Archive

EXAMPLES = Path(__file__).parents[2] / "examples"
FEW = ("--trials", "3", "--seeds", "1")


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def build_history(folder: Path) -> str:
    return run(
        *("build_history.py", "--datasets", "bupa", "--random", 2, "--tpe", 1),
        *("--archive", folder / "history", "--storage", folder / "studies.db"),
    )


def test_building_the_history_resumes_where_it_stopped(tmp_path):
    assert "1 of them new" in build_history(tmp_path)
    [task] = Archive(tmp_path / "history")
    assert task.name == "bupa"
    assert len(task.trials) == 3
    assert set(task.metafeatures) == {"log_rows", "log_columns", "log_classes"}
    assert all(trial.value < 0 for trial in task.observed), "negated log-losses"
    assert all(len(trial.curve) == 20 for trial in task.observed)
    assert "0 of them new" in build_history(tmp_path)

    # Without the archive the studies are still in the storage, and no trial runs again.
    (tmp_path / "history").rename(tmp_path / "lost")
    assert "1 of them new" in build_history(tmp_path)
    assert list(Archive(tmp_path / "history")) == [task]


@pytest.mark.slow
def test_quickstart_compares_the_methods(tmp_path):
    plot = tmp_path / "new" / "plot.png"
    arguments = ("quickstart.py", "--dataset", "wdbc", *FEW, "--plot", plot)
    output = run(*arguments)
    for part in ("TPE  ", "TPE + past winners", "MetaSampler", "Best after 3 trials", "wdbc"):
        assert part in output
    assert plot.stat().st_size > 10_000
    run(*arguments)  # overwrites the plot


def test_the_committed_history_is_complete():
    # Unreadable files cause warnings, which are errors in tests.
    tasks = list(Archive(EXAMPLES / "history"))
    assert len(tasks) >= 12
    assert len({task.name for task in tasks}) == len(tasks)
    assert all(len(task.observed) >= 40 for task in tasks)
    assert all(len(task.space) == 7 for task in tasks)


def test_the_committed_svm_history_is_complete_and_gives_recommendations():
    tasks = Archive(EXAMPLES / "svm_history").tasks()
    assert len(tasks) >= 60
    assert {len(task.trials) for task in tasks} == {100}
    assert all(task.metafeatures for task in tasks)
    output = run("recommend.py", "--dataset", "tae", "-k", 1, "--method", "knn")
    assert output.startswith("balanced accuracy 0.")


def test_building_the_svm_history_again_changes_nothing_and_gives_the_committed_values(tmp_path):
    arguments = ("--archive", tmp_path, "--datasets", "tae", "--configurations", 2)
    for _ in range(2):
        assert "contains 1 tasks" in run("build_svm_history.py", *arguments)
    [task] = Archive(tmp_path)
    [committed] = [t for t in Archive(EXAMPLES / "svm_history") if t.name == "tae"]
    assert task.trials[0].value == committed.trials[0].value


@pytest.mark.slow
def test_the_learned_optimizer_in_optuna_beats_guessing_the_class_shares():
    output = run("learned_optimizer_in_optuna.py", "--dataset", "wdbc", *FEW)
    rows = {line.split()[0]: float(line.split()[-1]) for line in output.splitlines()[2:5]}
    # Predicting the class shares has a log-loss of 0.66.
    assert max(rows["learned"], rows["choice"]) < 0.5
    assert "Best in 'choice': " in output


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_the_learned_optimizer_in_ray_reaches_80_percent_accuracy(tmp_path):
    output = run("learned_optimizer_in_ray.py", "--trials", 4, "--storage", tmp_path)
    [learned] = [line for line in output.splitlines() if line.startswith("learned ")]
    assert float(learned.split()[-1]) > 0.8
    assert "Tried in 'choice': " in output
