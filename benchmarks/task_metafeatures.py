"""Trials that meta-features save: MetaSampler with and without ``task=``, on real data sets.

    python -m benchmarks.task_metafeatures

A support vector machine is tuned on data sets whose family (all problems made of the same rows)
is left out of the history, ``examples/svm_history``. The families are those that
``benchmarks.recommendations`` reports on, the first data set of each, or with ``--split
development`` the others, whose past is that split alone. Trials saved: how much
earlier the run with meta-features reaches the value that both reach in the end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import optuna

from benchmarks.recommendations import interval
from metahpo.archive import Archive
from metahpo.tasks.task import Task
from optuna_meta import MetaSampler

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import svm_problem

SHOWN = (1, 2, 3, 5, 10)


def main() -> None:
    """Print a line for each data set as it ends, then the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", default="examples/svm_history")
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--datasets", type=int, default=25, help="at most")
    parser.add_argument("--split", choices=("development", "report"), default="report")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tasks = Archive(arguments.archive).tasks()
    by_family: dict[str, Task] = {}
    for task in tasks:
        by_family.setdefault(svm_problem.family(task.name), task)
    split = sorted(by_family)[arguments.split == "report" :: 2]
    usable = split if arguments.split == "development" else list(by_family)
    names = split[: arguments.datasets]
    found = []
    for name in names:
        others = set(usable) - {name}
        past = [task for task in tasks if svm_problem.family(task.name) in others]
        runs = [
            compare(by_family[name], past, arguments.trials, seed)
            for seed in range(arguments.seeds)
        ]
        found.append(np.mean(runs, axis=0))
        print(f"{by_family[name].name:28s}" + summary(found[-1], arguments.trials), flush=True)
    summarise(np.array(found), np.array(names), arguments.trials)


def compare(task: Task, past: list[Task], trials: int, seed: int) -> np.ndarray:
    """2 x trials: normalised regret of the best so far, without and with meta-features."""
    folds = svm_problem.split(svm_problem.encode(svm_problem.load(task.name)[0]), classes(task))
    known = np.array([trial.value for trial in task.trials])
    values = []
    for described in (None, task.metafeatures):
        sampler = MetaSampler(history=past, task=described, seed=seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(lambda t: svm_problem.score(svm_problem.suggest(t), folds), trials)
        values.append(np.maximum.accumulate([trial.value for trial in study.trials]))
    best, worst = max(known.max(), np.max(values)), known.min()
    return (best - np.array(values)) / (best - worst)


def classes(task: Task) -> np.ndarray:
    """The classes of a task's data set."""
    return svm_problem.load(task.name)[1]


def summary(regrets: np.ndarray, trials: int) -> str:
    """Regrets at some trials, without -> with."""
    shown = [count for count in SHOWN if count <= trials]
    return "".join(
        f"  {count}: {regrets[0, count - 1]:.3f} -> {regrets[1, count - 1]:.3f}" for count in shown
    )


def summarise(found: np.ndarray, names: np.ndarray, trials: int) -> None:
    """Means over data sets, and the trials saved, with 95% bootstrap intervals."""
    print(f"{'mean':28s}" + summary(found.mean(axis=0), trials))
    for count in (count for count in SHOWN if count <= trials):
        change = found[:, 1, count - 1] - found[:, 0, count - 1]
        low, high = interval(lambda rows, c=change: c[rows].mean(), names)
        print(f"change at {count}: {change.mean():z.4f} [{low:z.4f}, {high:z.4f}]")
    saved = np.array([_saved(without, with_) for without, with_ in found])
    low, high = interval(lambda rows: saved[rows].mean(), names)
    print(f"trials saved of {trials}: {saved.mean():z.2f} [{low:z.2f}, {high:z.2f}]")


def _saved(without: np.ndarray, with_: np.ndarray) -> float:
    """How much earlier the second reaches the last level that both reach; negative if later."""
    level = max(without[-1], with_[-1]) + 1e-12
    return float(np.argmax(without <= level) - np.argmax(with_ <= level))


if __name__ == "__main__":
    main()
