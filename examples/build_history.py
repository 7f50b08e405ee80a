"""Tune the network of ``mlp_problem`` on many data sets and store the trials in an archive.

This is the history that ``quickstart.py`` uses, such as a team might have after a year of
tuning. Half of the trials are drawn at random, half are suggested by Optuna's TPE.

    python examples/build_history.py --archive out/history

The script can be interrupted and repeated: finished trials are kept in the storage, and data
sets that the archive already contains are skipped.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlp_problem
import optuna
import torch
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from tqdm import tqdm

from metahpo.archive import Archive
from metahpo.tasks.task import Task
from optuna_meta.study_task import study_task

SEED = 0


def main() -> None:
    """Tune the network on every data set that the archive does not contain."""
    arguments = parse_arguments()
    # Networks that diverge are failed trials, and Optuna would warn about each of them.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    archive = Archive(arguments.archive)
    existing = archive.names() if Path(arguments.archive).is_dir() else []
    names = [name for name in arguments.datasets if name not in existing]
    trials = arguments.random + arguments.tpe
    with tqdm(total=trials * len(names), unit="trial", smoothing=0.05) as bar:
        for name in names:
            bar.set_description(name)
            task = tune(name, arguments.random, arguments.tpe, arguments.storage, bar.update)
            archive.add(task)
    total = len(existing) + len(names)
    print(f"{arguments.archive} contains {total} tasks, {len(names)} of them new")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Fill an archive with past tuning.")
    parser.add_argument("--archive", default="examples/history", help="archive to fill")
    parser.add_argument("--datasets", nargs="+", default=mlp_problem.HISTORY, metavar="NAME")
    parser.add_argument("--random", type=int, default=30, help="random trials per data set")
    parser.add_argument("--tpe", type=int, default=30, help="TPE trials per data set, after these")
    parser.add_argument("--storage", default="out/history.db", help="SQLite file of the studies")
    return parser.parse_args()


def tune(name: str, random: int, tpe: int, storage: str, tick: Callable[[], object]) -> Task:
    """Run the missing trials of a data set's study and return the study as a task.

    Args:
        name: One of ``mlp_problem.DATASETS``.
        random: Number of random trials at the start.
        tpe: Number of trials suggested by TPE after these.
        storage: SQLite file of the study.
        tick: Called after each trial, including those found in the storage.
    """
    Path(storage).parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=name, storage=f"sqlite:///{storage}", load_if_exists=True
    )
    data = mlp_problem.load(name)
    objective = partial(mlp_problem.objective, data=data, seed=SEED)
    for number in range(random + tpe):
        # An interrupted trial counts as failed; a killed one is not counted and runs again.
        if number >= finished(study):
            study.sampler = sampler(name, number, random)
            study.optimize(objective, n_trials=1)
        tick()
    task = study_task(study)
    return replace(task, metafeatures=mlp_problem.metafeatures(data), source="build_history.py")


def finished(study: optuna.Study) -> int:
    """Return the number of finished trials."""
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def sampler(name: str, number: int, random: int) -> BaseSampler:
    """Return the sampler of a trial, seeded by its number, so that resuming changes nothing."""
    # The name enters the seed so that data sets have different random configurations.
    seed = SEED + number + zlib.crc32(name.encode()) // 2
    return RandomSampler(seed) if number < random else TPESampler(seed=seed)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("interrupted; repeat the command to continue") from None
