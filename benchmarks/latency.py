"""How long a suggestion takes: MetaSampler with 100 past tasks beside GPSampler, in one run.

    python -m benchmarks.latency --past 100 --trials 100

Both continue the same study of an ``lcbench`` task (7 hyperparameters), in turns, on one thread
each; medians and their ratio are printed. The first suggestion includes reading the archive; the
third is the first to need models of the past, and includes fitting them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.trial import create_trial

from benchmarks.problems import DATA, Problem, load_problem, split
from metahpo.archive import Archive
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial
from optuna_meta import MetaSampler

FAMILY = "lcbench"


def write_history(path: Path, count: int, data: Path) -> None:
    """An archive of ``count`` tasks, 100 random trials each, from the history split."""
    names = split(FAMILY, data).history
    archive = Archive(str(path))
    for index in range(count):
        problem = load_problem(FAMILY, names[index % len(names)], data)
        configurations = problem.sample(100, np.random.default_rng(index))
        values = problem.evaluate(configurations)
        trials = tuple(Trial(c, float(v)) for c, v in zip(configurations, values, strict=True))
        space = Space(problem.space.distributions)
        archive.add(Task(f"{problem.name}-{index}", space, trials))


def started_study(
    problem: Problem, sampler: optuna.samplers.BaseSampler, trials: int
) -> optuna.Study:
    """A study that already has some random trials."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    configurations = problem.sample(trials, np.random.default_rng(0))
    distributions = dict(problem.space.distributions)
    for configuration, value in zip(configurations, problem.evaluate(configurations), strict=True):
        study.add_trial(
            create_trial(params=configuration, distributions=distributions, value=float(value))
        )
    return study


def ask_and_tell(study: optuna.Study, problem: Problem) -> float:
    """Milliseconds of one trial, less its evaluation."""
    begin = time.perf_counter()
    trial = study.ask()
    configuration = problem.suggest(trial)
    asked = time.perf_counter()
    value = float(problem.evaluate([configuration])[0])
    evaluated = time.perf_counter()
    study.tell(trial, value)
    return 1000.0 * (asked - begin + time.perf_counter() - evaluated)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--past", type=int, default=100, help="past tasks")
    parser.add_argument("--trials", type=int, default=100, help="trials the study has")
    parser.add_argument("--repeats", type=int, default=15, help="suggestions timed")
    parser.add_argument("--data", type=Path, default=DATA, help="the benchmark data")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    problem = load_problem(FAMILY, split(FAMILY, options.data).validation[0], options.data)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "archive"
        write_history(archive, options.past, options.data)
        fresh = optuna.create_study(sampler=MetaSampler(history=archive, seed=0))
        begun = [f"{ask_and_tell(fresh, problem) / 1000:.2f} s" for _ in range(3)]
        print(f"first three suggestions: {', '.join(begun)}")
        studies = {
            "meta": started_study(problem, MetaSampler(history=archive, seed=0), options.trials),
            "gp": started_study(problem, optuna.samplers.GPSampler(seed=0), options.trials),
            "tpe": started_study(problem, optuna.samplers.TPESampler(seed=0), options.trials),
        }
        times: dict[str, list[float]] = {name: [] for name in studies}
        for repeat in range(options.repeats + 1):
            for name, study in studies.items():
                elapsed = ask_and_tell(study, problem)
                if repeat:  # the first reads history and warms up
                    times[name].append(elapsed)
    for name, milliseconds in times.items():
        print(
            f"{name:5s} ask + tell, median of {options.repeats}: {np.median(milliseconds):.0f} ms"
        )
    ratio = np.median(np.array(times["gp"]) / np.array(times["meta"]))
    print(f"gp / meta, median of pairs: {ratio:.1f}")


if __name__ == "__main__":
    main()
