"""Train with each optimizer on each task; one JSON line a training; resumes where it stopped.

    python -m benchmarks.optimizers --data ../shared/benchdata --out optimizers.jsonl
    python -m benchmarks.optimizers_report optimizers.jsonl

Without tuning: ``learned``; ``adamw`` (default, constant); ``adamw-cosine``; ``schedulefree``
(AdamWScheduleFree); ``prodigy`` (with cosine decay, as its authors advise); ``muon`` (torch's, for
matrices inside the network, AdamW for the rest; left out where there are none). Tuned, each of 8
learning rates with 5% warm-up and cosine decay: ``adamw@...``, ``sgd@...`` (momentum 0.9).
AdamW's best rate and its two neighbours are then run over twice the steps, to find how many it
needs for losses that it did not reach.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from benchmarks.optimizer_tasks import TASKS, OptimizerTask
from benchmarks.records import append_records, circumstances, read_records
from metahpo import LearnedOptimizer
from metahpo.optim import load_weights
from metahpo.train.optimizer.inner_data import DataError, Dataset

WARMUP = 0.05
# Points of the curves that are kept, and evaluations on held-out rows.
POINTS, EVALUATIONS = 200, 20
HELD_OUT_ROWS = 1024
# The share of a training over which the final loss is taken.
ENDING = 0.05


@dataclass(frozen=True)
class Job:
    """One training; what identifies a line of the results."""

    task: str
    method: str
    seed: int
    steps: int


class Optimizers:
    """One or two optimizers that share a network, and their schedule."""

    def __init__(
        self, parts: list[Optimizer], schedule: Callable[[int], float] | None = None
    ) -> None:
        self.parts = parts
        self.schedulers = [LambdaLR(part, schedule) for part in parts] if schedule else []

    def step(self) -> None:
        """Step all, and the schedule."""
        for part in (*self.parts, *self.schedulers):
            part.step()

    def mode(self, training: bool) -> None:
        """Switch to training or evaluation; optimizers that average parameters depend on it."""
        for part in self.parts:
            change = getattr(part, "train" if training else "eval", None)
            if change is not None:
                change()


def make(method: str, network: nn.Module, steps: int, weights: Path | None) -> Optimizers | None:
    """The optimizers of a network; None if the method does not apply to it."""
    parameters = list(network.parameters())
    name, _, rate = method.partition("@")

    def warm_cosine(step: int) -> float:
        warm = min(1.0, (step + 1) / (WARMUP * steps))
        return warm * _cosine(step, steps)

    if name == "learned":
        chosen = load_weights(weights) if weights else None
        return Optimizers([LearnedOptimizer(network, steps, weights=chosen)])
    if name == "adamw":
        if rate:
            return Optimizers([AdamW(parameters, lr=float(rate))], warm_cosine)
        return Optimizers([AdamW(parameters)])
    if name == "adamw-cosine":
        return Optimizers([AdamW(parameters)], lambda step: _cosine(step, steps))
    if name == "sgd":
        return Optimizers([SGD(parameters, lr=float(rate), momentum=0.9)], warm_cosine)
    if name == "schedulefree":
        from schedulefree import AdamWScheduleFree

        return Optimizers([AdamWScheduleFree(parameters)])
    if name == "prodigy":
        from prodigyopt import Prodigy

        return Optimizers([Prodigy(parameters)], lambda step: _cosine(step, steps))
    if name == "muon":
        return _muon(network)
    raise ValueError(f"no method is called {method}")


def _muon(network: nn.Module) -> Optimizers | None:
    """Muon for hidden matrices alone, as its author says; AdamW for the rest."""
    matrices = [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.ndim == 2 and "embedding" not in name and name != "positions"
    ][:-1]
    if not matrices:
        return None
    taken = {id(p) for p in matrices}
    rest = [p for p in network.parameters() if id(p) not in taken]
    return Optimizers([torch.optim.Muon(matrices), AdamW(rest)])


def _cosine(step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(step / steps, 1)))


UNTUNED = ("learned", "adamw", "adamw-cosine", "schedulefree", "prodigy", "muon")
RATES = {
    "adamw": tuple(f"{10.0 ** (-4 + 0.4 * n):.2g}" for n in range(8)),
    "sgd": tuple(f"{10.0 ** (-3 + 0.4 * n):.2g}" for n in range(8)),
}
TUNED = tuple(f"{name}@{rate}" for name, rates in RATES.items() for rate in rates)
METHODS = (*UNTUNED, *TUNED)


# ---- one training ----------------------------------------------------------------------------


def execute(job: Job, data: Path, weights: Path | None) -> dict[str, Any] | None:
    """Train, and return the record to be written; None if the method does not apply."""
    task = TASKS[job.task]
    dataset = task.data(data)
    torch.manual_seed(job.seed)
    network = task.network()
    optimizers = make(job.method, network, job.steps, weights)
    if optimizers is None:
        return None
    begin = time.process_time()
    losses, held_out = train(task, dataset, network, optimizers, job)
    every = max(1, job.steps // POINTS)
    # Means over stretches: single minibatches are noise.
    stretches = losses[: job.steps // every * every].view(-1, every).mean(1)
    return asdict(job) | {
        "every": every,
        "losses": [round(value, 6) for value in stretches.tolist()],
        "held_out": held_out,
        "diverged": not bool(torch.isfinite(losses).all())
        or bool(stretches[-1] > 1.5 * stretches[0]),
        "parameters": sum(p.numel() for p in network.parameters()),
        "weights": str(weights) if weights else "shipped",
        "cpu_seconds": round(time.process_time() - begin, 2),
        **circumstances(),
    }


def train(
    task: OptimizerTask, dataset: Dataset, network: nn.Module, optimizers: Optimizers, job: Job
) -> tuple[Tensor, list[tuple[int, float]]]:
    """The loss before each step, and (step, loss on held-out rows) at intervals."""
    rows = torch.Generator().manual_seed(job.seed)
    losses = torch.empty(job.steps)
    held_out = []
    optimizers.mode(training=True)
    for step in range(job.steps):
        network.zero_grad()
        loss = task.loss(network, *dataset.sample(rows, task.rows))
        loss.backward()
        optimizers.step()
        losses[step] = loss.detach()
        if (step + 1) % max(1, job.steps // EVALUATIONS) == 0:
            held_out.append((step + 1, _held_out(task, dataset, network, optimizers)))
    return losses, held_out


@torch.no_grad()
def _held_out(
    task: OptimizerTask, dataset: Dataset, network: nn.Module, optimizers: Optimizers
) -> float:
    optimizers.mode(training=False)
    network.eval()
    rows = dataset.sample(torch.Generator().manual_seed(0), HELD_OUT_ROWS, validation=True)
    loss = task.loss(network, *rows).item()
    network.train()
    optimizers.mode(training=True)
    return round(loss, 6)


# ---- command line --------------------------------------------------------------------------


def plan(options: argparse.Namespace) -> list[Job]:
    """All jobs; seed 0 of all tasks first, so that the results of a part are useful."""
    jobs = []
    for seed in range(options.seeds):
        for task in options.tasks:
            for method in options.methods:
                jobs.append(Job(task, method, seed, options.steps))
    return jobs


def longer(records: Sequence[dict[str, Any]], options: argparse.Namespace) -> list[Job]:
    """AdamW over twice the steps, at each task's best rate and its neighbours."""
    jobs = []
    for task in options.tasks:
        best = best_rate(records, task, options.steps, "adamw")
        if best is not None:
            place = RATES["adamw"].index(best)
            near = RATES["adamw"][max(0, place - 1) : place + 2]
            jobs += [Job(task, f"adamw@{rate}", seed, 2 * options.steps)
                     for seed in range(options.seeds) for rate in near]  # fmt: skip
    return jobs


def best_rate(records: Sequence[dict[str, Any]], task: str, steps: int, method: str) -> str | None:
    """The rate with the least mean final loss over seeds; None if none was run."""
    finals: dict[str, list[float]] = defaultdict(list)
    for record in records:
        name, _, rate = record["method"].partition("@")
        if rate and (name, record["task"], record["steps"]) == (method, task, steps):
            finals[rate].append(final_loss(record))
    return min(finals, key=lambda rate: float(np.mean(finals[rate])), default=None)


def final_loss(record: dict[str, Any]) -> float:
    """The mean training loss at the end; infinite where it diverged."""
    if "final_loss" in record:
        return record["final_loss"]
    losses = np.array(record["losses"], float)
    end = losses[-max(1, round(ENDING * len(losses))) :].mean()
    return math.inf if record["diverged"] or not math.isfinite(end) else float(end)


def _run(jobs: list[Job], options: argparse.Namespace) -> None:
    done = {
        Job(**{name: record[name] for name in Job.__dataclass_fields__})
        for record in read_records(options.out)
    }
    append_records(options.out, _records([job for job in jobs if job not in done], options))


def _records(jobs: list[Job], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for job in tqdm(jobs, unit="training", smoothing=0.05, disable=None):
        record = execute(job, options.data, options.weights)
        if record is not None:
            yield record


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.optimizers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="holds mnist/mnist.npz")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=_positive, default=3)
    parser.add_argument("--steps", type=_positive, default=2000)
    parser.add_argument(
        "--once", dest="twice", action="store_false", help="AdamW over the same steps alone"
    )
    parser.add_argument("--weights", type=Path, help="weights of the learned optimizer")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def main(arguments: list[str] | None = None) -> int:
    """Run what is not in the file yet."""
    options = parse(arguments)
    torch.set_num_threads(1)
    try:
        _run(plan(options), options)
        if options.twice and any(method.startswith("adamw@") for method in options.methods):
            _run(longer([*read_records(options.out)], options), options)
    except ImportError as error:
        print(f"{error}: pip install 'metahpo[bench]'", file=sys.stderr)
        return 2
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
