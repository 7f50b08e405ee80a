"""Studies whose suggestions are timed: ``lcbench``, 7 hyperparameters."""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.trial import create_trial

from benchmarks.problems import DATA, Problem, load_problem, split

FAMILY = "lcbench"


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """The option that says where the benchmark data are."""
    parser.add_argument("--data", type=Path, default=DATA, help="the benchmark data's folder")


def start_measuring() -> None:
    """Use one thread, and print no warnings between figures."""
    torch.set_num_threads(1)
    # GPSampler would warn at every trial of a conditional space.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


def timed_problem(data: Path) -> Problem:
    """The first validation task."""
    return load_problem(FAMILY, split(FAMILY, data).validation[0], data)


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
    suggested = time.perf_counter()
    value = float(problem.evaluate([configuration])[0])
    evaluated = time.perf_counter()
    study.tell(trial, value)
    return 1000.0 * (suggested - begin + time.perf_counter() - evaluated)
