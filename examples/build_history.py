"""Tune the network of ``mlp_problem`` on many data sets and keep what was learned in an archive.

This is the past that ``quickstart.py`` learns from: what a team would have after a year of
tuning. Half of the trials are drawn at random, half are suggested by Optuna's TPE.

    python examples/build_history.py --archive out/history

Interrupt and repeat it as you like: finished trials are kept in the storage, and data sets that
the archive holds are skipped.
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
    """Tune every data set that the archive lacks."""
    arguments = parse_arguments()
    # A network that diverged is a failed trial, of which Optuna would warn each time.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    archive = Archive(arguments.archive)
    known = archive.names() if Path(arguments.archive).is_dir() else []
    names = [name for name in arguments.datasets if name not in known]
    trials = arguments.random + arguments.tpe
    with tqdm(total=trials * len(names), unit="trial", smoothing=0.05) as bar:
        for name in names:
            bar.set_description(name)
            task = tune(name, arguments.random, arguments.tpe, arguments.storage, bar.update)
            archive.add(task)
    print(f"{arguments.archive} holds {len(known) + len(names)} tasks, {len(names)} of them new")


def parse_arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description="Fill an archive with past tuning.")
    parser.add_argument("--archive", default="examples/history", help="where the tasks go")
    parser.add_argument("--datasets", nargs="+", default=mlp_problem.HISTORY, metavar="NAME")
    parser.add_argument("--random", type=int, default=30, help="random trials a data set")
    parser.add_argument("--tpe", type=int, default=30, help="then TPE trials a data set")
    parser.add_argument("--storage", default="out/history.db", help="SQLite file of the studies")
    return parser.parse_args()


def tune(name: str, random: int, tpe: int, storage: str, tick: Callable[[], object]) -> Task:
    """A data set's study as a task, after as many trials as it still lacks.

    Args:
        name: One of ``mlp_problem.DATASETS``.
        random: Trials drawn at random, to begin with.
        tpe: Trials suggested by TPE, afterwards.
        storage: SQLite file that keeps the study.
        tick: Called after each trial, those found in the storage included.
    """
    Path(storage).parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=name, storage=f"sqlite:///{storage}", load_if_exists=True
    )
    data = mlp_problem.load(name)
    objective = partial(mlp_problem.objective, data=data, seed=SEED)
    for number in range(random + tpe):
        # A trial that was interrupted has failed; one that was killed is not counted.
        if number >= finished(study):
            study.sampler = sampler(name, number, random)
            study.optimize(objective, n_trials=1)
        tick()
    task = study_task(study)
    return replace(task, metafeatures=mlp_problem.metafeatures(data), source="build_history.py")


def finished(study: optuna.Study) -> int:
    """The number of trials that ended."""
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def sampler(name: str, number: int, random: int) -> BaseSampler:
    """Who suggests a trial; seeded by its number, so that a resumed study goes on the same."""
    # The name, so that no two data sets see the same random configurations.
    seed = SEED + number + zlib.crc32(name.encode()) // 2
    return RandomSampler(seed) if number < random else TPESampler(seed=seed)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("interrupted; repeat the command to go on") from None
