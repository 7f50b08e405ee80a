"""Write real tasks for the meta-training of the surrogate, as archives.

python -m benchmarks.training_data --to .cache/training
python -m benchmarks.training_data --to .cache/curves --families lcbench --count 1000 --curves

    history/      tasks of the history split, 2,000 configurations each
    develop/      every sixth of them, if --develop: methods are compared on these
    validation/   tasks of the validation split: measured on, never trained on

The first half of a task's configurations is random; the others surround the best so far, closer
and closer. With ``--curves``, each has its learning curve. Only the YAHPO families are written: of
the others, tasks are both history and validation.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.problems import (
    DATA,
    YAHPO,
    DataMissingError,
    YahpoProblem,
    load_family,
    split,
)
from metahpo import Archive, Task, Trial
from metahpo.tasks.space import Array

ROUNDS, PARENTS = 5, 25


def recorded_task(problem: YahpoProblem, count: int, *, curves: bool = False) -> Task:
    """A task with so many evaluated configurations.

    Args:
        problem: What is evaluated.
        count: Half of them random.
        curves: Whether the trials have their learning curves.
    """
    space = problem.space
    rng = np.random.default_rng(zlib.crc32(problem.name.encode()))
    points = space.activate(space.snap(rng.random((count // 2, len(space)))))
    values = problem.evaluate(space.decode(points))
    share = (count - count // 2) // ROUNDS
    for scale in np.geomspace(0.2, 0.02, ROUNDS):
        parents = points[np.argsort(-values)[:PARENTS]]
        around = _around(parents[rng.integers(len(parents), size=share)], scale, rng)
        fresh = space.activate(space.snap(around))
        points = np.concatenate([points, fresh])
        values = np.concatenate([values, problem.evaluate(space.decode(fresh))])
    configurations = space.decode(points)
    reported = problem.curves(configurations) if curves else None
    trials = tuple(
        Trial(configuration, float(value), curve=_curve(reported, row))
        for row, (configuration, value) in enumerate(zip(configurations, values, strict=True))
    )
    return Task(problem.name, space, trials, problem.metafeatures, source="benchmarks")


def _curve(
    reported: tuple[tuple[float, ...], Array] | None, row: int
) -> tuple[tuple[float, float], ...]:
    if reported is None:
        return ()
    steps, values = reported
    return tuple(zip(map(float, steps), values[row].tolist(), strict=True))


def _around(parents: Array, scale: float, rng: np.random.Generator) -> Array:
    """A point near each parent; a quarter of its hyperparameters anywhere."""
    filled = np.where(np.isnan(parents), rng.random(parents.shape), parents)
    near = filled + scale * rng.standard_normal(parents.shape)
    anywhere = rng.random(parents.shape) < 0.25
    return np.clip(np.where(anywhere, rng.random(parents.shape), near), 0.0, 1.0)


def parts(family: str, data: Path, develop: bool) -> dict[str, list[str]]:
    """The family's data sets by archive."""
    known = split(family, data)
    apart = known.develop if develop else ()
    return {
        "history": [task for task in known.history if task not in apart],
        "develop": list(apart),
        "validation": list(known.validation),
    }


def main(argv: list[str] | None = None) -> int:
    """Write the archives that do not exist yet."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_data",
        description="Write real tasks for the meta-training of the surrogate, as archives.",
    )
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--families", nargs="+", choices=YAHPO, default=list(YAHPO))
    parser.add_argument("--count", type=int, default=2000, help="configurations a task")
    parser.add_argument("--curves", action="store_true", help="with learning curves")
    parser.add_argument("--develop", action="store_true", help="keep every sixth task apart")
    parser.add_argument("--data", type=Path, default=DATA, help="the benchmark data's folder")
    arguments = parser.parse_args(argv)
    if arguments.count < 2 * ROUNDS:
        parser.error(f"--count must be at least {2 * ROUNDS}")
    try:
        for family in arguments.families:
            for part, tasks in parts(family, arguments.data, arguments.develop).items():
                problems = [YahpoProblem(load_family(family, arguments.data), t) for t in tasks]
                progress = tqdm(problems, desc=f"{family} {part}", disable=None)
                written = (
                    recorded_task(problem, arguments.count, curves=arguments.curves)
                    for problem in progress
                )
                Archive(arguments.to / part).extend(written)
    except DataMissingError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
