"""Score 100 configurations of a support vector machine on 64 real data sets, and archive them.

The past that ``recommend.py`` recommends from: for each data set the same 100 configurations with
their cross-validated balanced accuracy, and the data set's meta-features, all from at most 1,000
rows. About 15 minutes on one core.

    python examples/build_svm_history.py --archive out/svm_history

Interrupt and repeat it as you like: data sets that the archive holds are not scored again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import svm_problem
from tqdm import tqdm

from metahpo.archive import Archive
from metahpo.metafeatures import extract
from metahpo.tasks.task import Task, Trial

SEED = 0


def main() -> None:
    """Score and describe every data set."""
    arguments = parse_arguments()
    archive = Archive(arguments.archive)
    known = {task.name: task for task in archive} if Path(arguments.archive).is_dir() else {}
    candidates = configurations(arguments.configurations)
    with tqdm(arguments.datasets, unit="data set") as bar:
        for name in bar:
            bar.set_description(name)
            archive.add(scored(name, known.get(name), candidates))
    print(f"{arguments.archive} holds {len(archive)} tasks")


def parse_arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description="Fill an archive with scored configurations.")
    parser.add_argument("--archive", default="examples/svm_history", help="where the tasks go")
    parser.add_argument("--datasets", nargs="+", default=svm_problem.DATASETS, metavar="NAME")
    parser.add_argument("--configurations", type=int, default=100, help="a data set")
    return parser.parse_args()


def configurations(count: int) -> list[dict[str, object]]:
    """Random ones, the same for every data set."""
    space = svm_problem.SPACE
    points = np.random.default_rng(SEED).random((count, len(space)))
    return space.decode(space.activate(points))


def scored(name: str, known: Task | None, candidates: list[dict[str, object]]) -> Task:
    """A data set as a task; the trials of a known one are taken over."""
    inputs, classes = svm_problem.load(name)
    if known is None or len(known.trials) != len(candidates):
        folds = svm_problem.split(svm_problem.encode(inputs), classes)
        trials = tuple(Trial(c, svm_problem.score(c, folds)) for c in candidates)
    else:
        trials = known.trials
    return Task(
        name,
        svm_problem.SPACE,
        trials,
        extract(inputs, classes),
        source="build_svm_history.py",
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("interrupted; repeat the command to go on") from None
