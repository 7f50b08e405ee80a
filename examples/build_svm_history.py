"""Score 100 configurations of a support vector machine on 64 real data sets, in an archive.

This is the history that ``recommend.py`` uses: for each data set the same 100 configurations
with their cross-validated balanced accuracy, and the meta-features of the data set, both from at
most 1,000 rows. About 15 minutes on one core.

    python examples/build_svm_history.py --archive out/svm_history

The script can be interrupted and repeated: data sets in the archive are not scored again.
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
    """Compute the scores and the meta-features of every data set."""
    arguments = parse_arguments()
    archive = Archive(arguments.archive)
    existing = {task.name: task for task in archive} if Path(arguments.archive).is_dir() else {}
    candidates = configurations(arguments.configurations)
    with tqdm(arguments.datasets, unit="data set") as bar:
        for name in bar:
            bar.set_description(name)
            archive.add(scored(name, existing.get(name), candidates))
    print(f"{arguments.archive} contains {len(archive)} tasks")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Fill an archive with scored configurations.")
    parser.add_argument("--archive", default="examples/svm_history", help="archive to fill")
    parser.add_argument("--datasets", nargs="+", default=svm_problem.DATASETS, metavar="NAME")
    parser.add_argument("--configurations", type=int, default=100, help="number per data set")
    return parser.parse_args()


def configurations(count: int) -> list[dict[str, object]]:
    """Draw random configurations, the same for every data set."""
    space = svm_problem.SPACE
    points = np.random.default_rng(SEED).random((count, len(space)))
    return space.decode(space.activate(points))


def scored(name: str, existing: Task | None, candidates: list[dict[str, object]]) -> Task:
    """Return a data set as a task, with the trials of the existing task if it has them all."""
    inputs, classes = svm_problem.load(name)
    if existing is None or len(existing.trials) != len(candidates):
        folds = svm_problem.split(svm_problem.encode(inputs), classes)
        trials = tuple(Trial(c, svm_problem.score(c, folds)) for c in candidates)
    else:
        trials = existing.trials
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
        raise SystemExit("interrupted; repeat the command to continue") from None
