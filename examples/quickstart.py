"""What a history of past tuning is worth: the first twenty trials on a new data set.

Trains real networks (about two minutes on two cores, no downloads) and compares

    TPE                   Optuna's default sampler, without a history,
    TPE + past winners    the same, started with the best configurations of past data sets,
    MetaSampler           which learns from all trials on the past data sets,

by the validation log-loss of the best network so far; lower is better.

    python examples/quickstart.py
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import signal
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import AsyncResult
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import TypeAlias

import matplotlib as mpl
import mlp_problem
import numpy as np
import optuna
import torch
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator
from optuna.samplers import TPESampler
from tqdm import tqdm

import optuna_meta
from metahpo.archive import Archive
from metahpo.tasks.space import Configuration
from metahpo.tasks.task import Trial
from optuna_meta import MetaSampler

HISTORY = str(Path(__file__).parent / "history")
# The data set with the most rows among those not in the history, because its scores are the
# least noisy. Chosen before any result was seen.
DATASET = "texture"
METHODS = ("TPE", "TPE + past winners", "MetaSampler")
SHOWN = (1, 3, 5, 10, 15, 20)

Job: TypeAlias = tuple[str, int]  # method and seed


@dataclass(frozen=True)
class Run:
    """One study: a method with one seed.

    Attributes:
        method: One of ``METHODS``.
        best: Lowest log-loss so far after each trial; infinite before a trial succeeded.
        accuracy: Validation accuracy of the best network.
        explanation: Of the first suggestion; empty for TPE.
    """

    method: str
    best: np.ndarray
    accuracy: float
    explanation: str


def main() -> None:
    """Run all studies and print the comparison."""
    arguments = parse_arguments()
    jobs = list(itertools.product(METHODS, range(arguments.seeds)))
    study = partial(run_study, arguments.dataset, arguments.history, arguments.trials)
    runs = run_all(study, jobs, arguments.trials * len(jobs), arguments.workers)
    means = {
        method: np.mean([run.best for run in runs if run.method == method], axis=0)
        for method in METHODS
    }
    print(f"\nBest validation log-loss so far on {arguments.dataset!r}, a data set that is not in")
    print(f"the history; mean over {arguments.seeds} seeds, lower is better\n")
    print(table(runs, means))
    print("\n" + verdict(means))
    print("\nMetaSampler's explanation of its first suggestion:\n")
    print(indented(next(run.explanation for run in runs if run.explanation)))
    plot(runs, means, arguments.dataset, arguments.plot)
    print(f"\nCurves: {arguments.plot}")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Compare MetaSampler with TPE on a new data set.")
    parser.add_argument("--dataset", default=DATASET, choices=mlp_problem.HELD_OUT)
    parser.add_argument("--history", default=HISTORY, help="archive of past tuning")
    parser.add_argument("--trials", type=int, default=20, help="trials per study")
    parser.add_argument("--seeds", type=int, default=3, help="studies per method")
    parser.add_argument("--workers", type=int, default=2, help="studies run in parallel")
    parser.add_argument("--plot", type=Path, default=Path("out/quickstart.png"))
    return parser.parse_args()


# ---- the studies ----------------------------------------------------------------------------


def run_study(dataset: str, history: str, trials: int, job: Job) -> Run:
    """Tune the network by one method with one seed."""
    method, seed = job
    data = mlp_problem.load(dataset)
    if method == "MetaSampler":
        sampler = MetaSampler(history=history, task=mlp_problem.metafeatures(data), seed=seed)
        study = optuna.create_study(sampler=sampler)
    else:
        study = optuna.create_study(sampler=TPESampler(seed=seed))
    if method == "TPE + past winners":
        for configuration in past_winners(history, seed)[: trials // 2]:
            study.enqueue_trial(dict(configuration))
    objective = partial(mlp_problem.objective, data=data, seed=seed)
    study.optimize(objective, n_trials=trials, callbacks=[count_trial])
    explanation = optuna_meta.explain(study.trials[0]) if method == "MetaSampler" else ""
    return Run(method, best_so_far(study), study.best_trial.user_attrs["accuracy"], explanation)


def past_winners(history: str, seed: int) -> list[Configuration]:
    """Return the best configuration of each past data set, in random order.

    Half of the trials of a study use these. With twenty trials that is ten, as many as TPE
    would otherwise draw at random before it fits a model.
    """
    winners = [
        max(task.observed, key=observed_value).configuration
        for task in Archive(history)
        if task.observed
    ]
    order = np.random.default_rng(seed).permutation(len(winners))
    return [winners[index] for index in order]


def observed_value(trial: Trial) -> float:
    """Return the value of an observed trial; larger is better in an archive."""
    return -math.inf if trial.value is None else trial.value


def best_so_far(study: optuna.Study) -> np.ndarray:
    """Return the lowest log-loss so far after each trial."""
    values = [math.inf if trial.value is None else trial.value for trial in study.trials]
    return np.minimum.accumulate(values)


# ---- running studies in parallel ------------------------------------------------------------

_trials_done: Synchronized[int]


def run_all(
    study: Callable[[Job], Run], jobs: Sequence[Job], trials: int, workers: int
) -> list[Run]:
    """Run all studies in a pool of processes, with one progress bar over their trials."""
    context = multiprocessing.get_context("spawn")
    counter = context.Value("i", 0)
    with (
        context.Pool(workers, initializer=start_worker, initargs=(counter,)) as pool,
        tqdm(total=trials, unit="trial", desc="training") as bar,
    ):
        return wait(pool.map_async(study, jobs, chunksize=1), counter, bar)


def wait(pending: AsyncResult, counter: Synchronized[int], bar: tqdm) -> list[Run]:
    """Wait for the results and update the progress bar."""
    while not pending.ready():
        pending.wait(0.2)
        bar.update(counter.value - bar.n)
    return pending.get()


def start_worker(counter: Synchronized[int]) -> None:
    """Initialise a process of the pool."""
    global _trials_done
    _trials_done = counter
    # The parent handles Ctrl-C and terminates its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    # Networks that diverge are failed trials, and Optuna would warn about each of them.
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def count_trial(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Count a finished trial for the progress bar of the parent."""
    with _trials_done.get_lock():
        _trials_done.value += 1


# ---- results --------------------------------------------------------------------------------


def table(runs: list[Run], means: dict[str, np.ndarray]) -> str:
    """Return the mean log-loss after some numbers of trials, one line per method."""
    trials = len(means[METHODS[0]])
    shown = [number for number in SHOWN if number < trials] + [trials]
    lowest = np.min(list(means.values()), axis=0)
    lines = [f"{'after trial':20}" + "".join(f"{n:>8} " for n in shown) + "  accuracy"]
    for method in METHODS:
        numbers = "".join(number_text(means[method][n - 1], lowest[n - 1]) for n in shown)
        accuracy = np.mean([run.accuracy for run in runs if run.method == method])
        lines.append(f"{method:20}{numbers}{accuracy:>10.1%}")
    return "\n".join([*lines, "* lowest"])


def number_text(value: float, lowest: float) -> str:
    """Format a log-loss; a dash if some seed had no finished trial yet."""
    if not math.isfinite(value):
        return f"{'-':>8} "
    return f"{value:>8.4f}{'*' if value == lowest else ' '}"


def indented(paragraph: str) -> str:
    """Wrap a paragraph to the width of a terminal."""
    margin = "    "
    return textwrap.fill(paragraph, 88, initial_indent=margin, subsequent_indent=margin)


def verdict(means: dict[str, np.ndarray]) -> str:
    """Name the best method, and when it reached the final results of the others."""
    ranking = sorted(METHODS, key=lambda method: means[method][-1])
    winner, trials = ranking[0], len(means[ranking[0]])
    lines = [f"Best after {trials} trials: {winner}."]
    for method in ranking[1:]:
        reached = int(np.argmax(means[winner] <= means[method][-1])) + 1
        lines.append(f"It reached the final result of {method} by trial {reached}.")
    lines.append("A few seeds on one data set are an example, not evidence: see benchmarks/.")
    return "\n".join(lines)


def plot(runs: list[Run], means: dict[str, np.ndarray], dataset: str, path: Path) -> None:
    """Plot the best log-loss by trial: the mean per method, with thin lines per seed."""
    mpl.use("Agg")
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for index, method in enumerate(METHODS):
        number = np.arange(1, len(means[method]) + 1)
        for run in runs:
            if run.method == method:
                axes.plot(number, run.best, color=f"C{index}", alpha=0.3, linewidth=0.8)
        axes.plot(number, means[method], color=f"C{index}", linewidth=2.2, label=method)
    axes.set(
        xlabel="trial",
        ylabel="best validation log-loss so far",
        yscale="log",
        title=f"A neural network on {dataset!r}, which is not in the history",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None
