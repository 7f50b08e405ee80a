"""The learned optimizer against AdamW, on tasks that its meta-training and its choice never saw.

    python -m benchmarks.optimizers --data ../shared/benchdata --steps 300 --seeds 1

Each line: the mean training loss over the last tenth of the steps of LearnedOptimizer, of AdamW
with its default rate, of AdamW with the best (afterwards) of 8 rates under warm-up and cosine;
and the speed-up, the steps which the latter needs for the loss that ours ends with, or ">", where
it never gets there.
"""

from __future__ import annotations

import argparse
import math
import sysconfig
from pathlib import Path

import torch
from torch import Tensor

from metahpo.optim import load_weights
from metahpo.optim.weights import shipped_weights
from metahpo.train.data import Dataset, mnist
from metahpo.train.inner import Training, batched
from metahpo.train.networks import MLP, Convolutional, Recurrent, Transformer
from metahpo.train.problems import Problem

RATES = tuple(10.0 ** (-3.5 + 0.4 * n) for n in range(8))
WARMUP = 0.05
CHARACTERS = 97  # Printable ASCII and one for the rest.


def problems(data: Path) -> list[Problem]:
    """Tasks of reporting."""
    images = mnist(data, side=14)
    text = _source_text(length=24)
    return [
        Problem("mnist-mlp", MLP((196, 128, 128, 10), "gelu", norm=True), images, 64),
        Problem("mnist-conv", Convolutional(14, (16, 32), 10, "gelu"), images, 32),
        Problem("mnist-autoencoder", MLP((196, 96, 12, 96, 196), "gelu"), images, 64,
                reconstruct=True),
        Problem("text-transformer", Transformer(CHARACTERS, 24, 32, 4, 2), text, 16),
        Problem("text-elman", Recurrent(CHARACTERS, 48), text, 16),
    ]  # fmt: skip


def _source_text(length: int) -> Dataset:
    """Windows on source text of the Python standard library."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    names = ("argparse.py", "ast.py", "typing.py", "inspect.py", "tarfile.py", "datetime.py")
    text = "".join((folder / name).read_text(errors="replace") for name in names
                   if (folder / name).exists())  # fmt: skip
    codes = torch.tensor([min(max(ord(c) - 31, 0), CHARACTERS - 1) for c in text])
    windows = codes[: len(codes) // (length + 1) * (length + 1)].view(-1, length + 1)
    return Dataset("stdlib", windows[:, :-1], windows[:, 1:].contiguous(), CHARACTERS)


def ours(problem: Problem, weights: dict[str, Tensor], steps: int, seed: int) -> Tensor:
    """Losses of the learned optimizer: ``steps``."""
    generator = torch.Generator().manual_seed(seed)
    training = Training.start(problem, steps, 1, generator, tell_losses=False)
    return training.advance(batched(weights), steps, generator)[:, 0]


def adamw(problem: Problem, steps: int, seed: int) -> Tensor:
    """Losses of AdamW: ``steps x (1 + rates)``; the first at the default rate, held constant."""
    generator = torch.Generator().manual_seed(seed)
    rates = torch.tensor([1e-3, *RATES])
    start = problem.initial(generator)
    parameters = [p.expand(len(rates), *p.shape).contiguous() for p in start]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    losses = []
    for step in range(steps):
        data = problem.dataset.sample(generator, problem.rows)
        now, gradients = problem.gradients(parameters, *data)
        losses.append(now)
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        schedule = torch.full_like(rates, min(1.0, (step + 1) / (WARMUP * steps)) * cosine)
        schedule[0] = 1.0
        for p, g, (m, v) in zip(parameters, gradients, moments, strict=True):
            m.lerp_(g, 0.1)
            v.lerp_(g.square(), 0.001)
            root = (v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            rate = (rates * schedule).view(-1, *(1,) * (p.ndim - 1))
            p.mul_(1 - 0.01 * rate).sub_(rate * m / (1 - 0.9 ** (step + 1)) / root)
    return torch.stack(losses)


def compare(problem: Problem, weights: dict[str, Tensor], steps: int, seed: int) -> str:
    """One line of the table."""
    tail = max(1, steps // 10)
    mine, peers = ours(problem, weights, steps, seed), adamw(problem, steps, seed)
    end = mine[-tail:].mean()
    ends = peers[-tail:].mean(0).nan_to_num(math.inf)
    best = int(ends[1:].argmin()) + 1
    # The same window over which the end was averaged.
    smooth = peers[:, best].unfold(0, tail, 1).mean(-1)
    reached = (smooth <= end).nonzero()
    speed = f"{(int(reached[0]) + tail) / steps:.2f}" if len(reached) else ">1"
    return (
        f"{problem.name:18} {seed:4} {end:8.4f} {ends[0]:8.4f} {ends[best]:8.4f} "
        f"{RATES[best - 1]:8.1e} {speed:>6}"
    )


def main() -> None:
    """Prints the table, a line as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="default: those that are shipped")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    weights = load_weights(options.weights) if options.weights else shipped_weights()
    print(f"{'task':18} seed     ours  default  best-of-8   rate  speed-up")
    for problem in problems(options.data):
        for seed in range(options.seeds):
            print(compare(problem, weights, options.steps, seed), flush=True)


if __name__ == "__main__":
    main()
