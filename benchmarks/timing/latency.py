"""How long a suggestion takes: MetaSampler with past tasks beside GPSampler and TPE.

All continue the same study, in turns; medians and their ratio are printed. The first suggestion
includes reading the archive; the third is the first to need models of the past tasks, and includes
fitting them.
"""

from __future__ import annotations

import argparse

import numpy as np
import optuna

from benchmarks.problems import Problem
from benchmarks.timing.histories import problem_archive
from benchmarks.timing.studies import (
    FAMILY,
    add_data_argument,
    ask_and_tell,
    start_measuring,
    started_study,
    timed_problem,
)
from optuna_meta import MetaSampler


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--past", type=int, default=100, help="past tasks")
    parser.add_argument("--trials", type=int, default=100, help="trials the study has")
    parser.add_argument("--repeats", type=int, default=15, help="suggestions timed")
    add_data_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    start_measuring()
    problem = timed_problem(options.data)
    archive = problem_archive(FAMILY, options.past, options.data)
    fresh = optuna.create_study(sampler=MetaSampler(history=archive, seed=0))
    begun = [f"{ask_and_tell(fresh, problem) / 1000:.2f} s" for _ in range(3)]
    print(f"first three suggestions: {', '.join(begun)}")
    samplers = {
        "meta": MetaSampler(history=archive, seed=0),
        "gp": optuna.samplers.GPSampler(seed=0),
        "tpe": optuna.samplers.TPESampler(seed=0),
    }
    studies = {name: started_study(problem, s, options.trials) for name, s in samplers.items()}
    times = _in_turns(studies, problem, options.repeats)
    for name, milliseconds in times.items():
        median = np.median(milliseconds)
        print(f"{name:5s} ask + tell, median of {options.repeats}: {median:.0f} ms")
    ratio = np.median(np.array(times["gp"]) / np.array(times["meta"]))
    print(f"gp / meta, median of pairs: {ratio:.1f}")
    return 0


def _in_turns(
    studies: dict[str, optuna.Study], problem: Problem, repeats: int
) -> dict[str, list[float]]:
    """Milliseconds of each study's suggestions; the first, which reads history, left out."""
    rounds = [
        {name: ask_and_tell(study, problem) for name, study in studies.items()}
        for _ in range(repeats + 1)
    ]
    return {name: [taken[name] for taken in rounds[1:]] for name in studies}
