"""Compare weights of the learned optimizer with the starting point of their training.

    python -m benchmarks.optimizer_weights compare --data ../shared/benchdata  # the shipped ones
    python -m benchmarks.optimizer_weights sizes --data ../shared/benchdata

``compare``: the logarithm of the relative loss at the end, less that of the starting point; on new
problems of the training's kind, and on the validation problems. ``sizes``: the same logarithm for
the starting point with other peak step sizes of matrices, the horizon's power left out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from metahpo.optim import initial_weights, load_weights
from metahpo.optim.rule import Weights
from metahpo.optim.weights import shipped_weights
from metahpo.train.optimizer.inner_data import DataError, keel, mnist
from metahpo.train.optimizer.inner_problems import Problem, augmented, validation_problems
from metahpo.train.optimizer.objective import final_score
from metahpo.train.optimizer.problem_families import training_problems

SIZES = (0.015, 0.025, 0.04, 0.06, 0.09, 0.14)
# No training of problems uses so large a seed.
FIRST_SEED = 1 << 40


def new_problems(data: Path, count: int) -> list[Problem]:
    """Problems of the training's kinds that no training has seen, each kind in turn."""
    families = training_problems([mnist(data), *keel()])
    problems = []
    for place in range(count):
        random = np.random.default_rng(FIRST_SEED + place)
        problems.append(augmented(families[place % len(families)](random), random))
    return problems


def compare(options: argparse.Namespace) -> None:
    """Print a line for each set of problems, horizon and file."""
    sets = {
        "new": new_problems(options.data, options.problems),
        "validation": validation_problems(),
    }
    files = {str(path): load_weights(path) for path in options.weights}
    start = initial_weights()
    for horizon in options.steps:
        for name, problems in sets.items():
            base = _scores(start, problems, horizon)
            for file, weights in (files or {"shipped": shipped_weights()}).items():
                gains = [
                    ours - theirs
                    for ours, theirs in zip(_scores(weights, problems, horizon), base, strict=True)
                ]
                print(f"{file}, {name} problems, {horizon} steps: mean "
                      f"{statistics.fmean(gains):+.3f}, median {statistics.median(gains):+.3f}, "
                      f"lower on {sum(gain < 0 for gain in gains)} of {len(gains)}",
                      flush=True)  # fmt: skip


def sizes(options: argparse.Namespace) -> None:
    """Print a line for each horizon."""
    problems = new_problems(options.data, options.problems)
    for horizon in options.steps:
        cells = []
        for size in SIZES:
            weights = dict(initial_weights())
            weights["step.horizon_power"] = torch.zeros(1)
            weights["step.log_size"] = torch.tensor([size, size / 4, size / 4]).log()
            cells.append(f"{size}: {statistics.fmean(_scores(weights, problems, horizon)):.3f}")
        print(f"{horizon} steps: {', '.join(cells)}", flush=True)


def _scores(weights: Weights, problems: Sequence[Problem], horizon: int) -> list[float]:
    return [final_score(weights, problem, horizon) for problem in problems]


TASKS = {"compare": compare, "sizes": sizes}


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.optimizer_weights", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("weights", nargs="*", type=Path, help="files; default: the shipped ones")
    parser.add_argument("--data", type=Path, required=True, help="holds mnist/mnist.npz")
    parser.add_argument("--steps", nargs="+", type=int, default=[100, 300, 1000])
    parser.add_argument("--problems", type=int, default=16, help="new ones")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        TASKS[options.task](options)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
