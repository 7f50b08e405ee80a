"""What the learned optimizer costs, and where it might break.

``time`` and ``memory`` compare it with AdamW; ``horizon`` trains ten times longer than planned,
``width`` networks up to 16 times as wide, ``bf16`` in bfloat16, ``small`` on a few hundred rows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from benchmarks.optimizer_tasks import mlp
from metahpo import LearnedOptimizer
from metahpo.optim.orthogonal import orthogonalised
from metahpo.train.optimizer.inner_data import DataError, Dataset, keel

REPEATS = 5
# KEEL's data sets of a few hundred rows that meta-training does not have.
SMALL = ("wdbc", "ionosphere", "sonar", "pima")
# The learned optimizer's weight decay where data are few.
DECAY = 0.5


def layers(millions: float, device: str) -> list[nn.Parameter]:
    """Parameters of a transformer's proportions (12 width^2 a block), with gradients."""
    width = 512 if millions >= 3 else 96
    shapes = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
    blocks = max(1, round(millions * 1e6 / (12 * width**2)))
    generator = torch.Generator().manual_seed(0)
    parameters = []
    for shape in [*shapes, (width,), (4 * width,)] * blocks:
        parameter = nn.Parameter(0.02 * torch.randn(shape, generator=generator).to(device))
        parameter.grad = torch.randn(shape, generator=generator).to(device)
        parameters.append(parameter)
    return parameters


def seconds(step: Callable[[], object], device: str) -> float:
    """Processor time of one call, or its time on the device.

    Other programs do not lengthen processor time.
    """
    if device == "cpu":
        begin = time.process_time()
        step()
        return time.process_time() - begin
    begin = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def compare_time(options: argparse.Namespace) -> None:
    """Print medians of steps taken in turn, so that other work on the machine affects both."""
    parameters = layers(options.millions, options.device)
    count = sum(p.numel() for p in parameters)
    both: list[Optimizer] = [
        LearnedOptimizer(parameters, 1000), AdamW(parameters, fused=True),
    ]  # fmt: skip
    for optimizer in both:
        optimizer.step()

    def orthogonal() -> None:
        for parameter in parameters:
            if parameter.ndim > 1 and parameter.grad is not None:
                orthogonalised(parameter.grad[None])

    steps = (*(optimizer.step for optimizer in both), orthogonal)
    taken = [[seconds(step, options.device) for step in steps] for _ in range(REPEATS)]
    ours, adamw, part = (statistics.median(column) for column in zip(*taken, strict=True))
    print(f"{count / 1e6:.1f} M parameters, {options.device}, {options.threads} threads: learned "
          f"{ours:.4f} s (making its matrices orthogonal, one by one, takes {part:.4f} s), fused "
          f"AdamW {adamw:.4f} s, {ours / adamw:.1f} times")  # fmt: skip


def compare_memory(options: argparse.Namespace) -> None:
    """Print the bytes of the state's tensors for each parameter."""
    parameters = layers(options.millions, options.device)
    count = sum(p.numel() for p in parameters)
    for optimizer in (LearnedOptimizer(parameters, 1000), AdamW(parameters)):
        optimizer.step()
        held = sum(
            value.numel() * value.element_size()
            for state in optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
        print(f"{type(optimizer).__name__}: {held / count:.2f} bytes of state a parameter")


def trained(network: nn.Module, num_steps: int, steps: int) -> list[float]:
    """Losses on KEEL's penbased, which meta-training does not use."""
    [data] = keel(["penbased"])
    rows = torch.Generator().manual_seed(0)
    optimizer = LearnedOptimizer(network, num_steps)
    dtype = next(network.parameters()).dtype
    losses = []
    for _ in range(steps):
        inputs, targets = data.sample(rows, 64)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(inputs.to(dtype)).float(), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _network(width: int) -> nn.Sequential:
    torch.manual_seed(0)
    return mlp(16, width, width, 10)


def _mean(losses: list[float]) -> float:
    return statistics.fmean(losses)


def horizon(options: argparse.Namespace) -> None:
    """Print losses of a training ten times as long as ``num_steps``."""
    steps = options.steps
    losses = trained(_network(64), steps, 10 * steps)
    for times in (1, 2, 5, 10):
        end = losses[: times * steps][-steps // 10 :]
        print(f"after {times:2} x {steps} steps: loss {_mean(end):.5f}, worst {max(end):.5f}")


def width(options: argparse.Namespace) -> None:
    """Print losses of networks of several widths, with nothing retuned."""
    for times in (1, 4, 16):
        losses = trained(_network(32 * times), options.steps, options.steps)
        tenth = max(1, options.steps // 10)
        print(f"width {32 * times:4}: loss {_mean(losses[:tenth]):.4f} at the beginning, "
              f"{_mean(losses[-tenth:]):.5f} at the end, worst {max(losses):.3f}")  # fmt: skip


def bf16(options: argparse.Namespace) -> None:
    """Print losses with parameters in bfloat16 and in single precision."""
    for dtype in (torch.float32, torch.bfloat16):
        losses = trained(_network(64).to(dtype), options.steps, options.steps)
        print(f"{dtype}: loss {_mean(losses[-max(1, options.steps // 10) :]):.5f} at the end")


def small(options: argparse.Namespace) -> None:
    """Print held-out losses on data of a few hundred rows, which any network fits."""
    makers: dict[str, Callable[[nn.Module], Optimizer]] = {
        "learned": lambda network: LearnedOptimizer(network, options.steps),
        "learned, decay": lambda network: LearnedOptimizer(network, options.steps, DECAY),
        "adamw": lambda network: AdamW(network.parameters()),
    }
    for name in SMALL:
        [data] = keel([name])
        losses = [f"{label} {_held_out(data, make, options.steps):.3f}"
                  for label, make in makers.items()]  # fmt: skip
        print(f"{name}, {len(data.inputs)} rows: held-out loss {', '.join(losses)}")


def _held_out(data: Dataset, make: Callable[[nn.Module], Optimizer], steps: int) -> float:
    torch.manual_seed(0)
    network = mlp(data.inputs.shape[1], 64, 64, data.classes)
    optimizer, rows = make(network), torch.Generator().manual_seed(0)

    def loss_of(count: int, validation: bool) -> Tensor:
        inputs, targets = data.sample(rows, count, validation)
        return nn.functional.cross_entropy(network(inputs), targets)

    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(32, False).backward()
        optimizer.step()
    with torch.no_grad():
        return loss_of(2000, True).item()


CHECKS = {
    "small": small,
    "time": compare_time,
    "memory": compare_memory,
    "horizon": horizon,
    "width": width,
    "bf16": bf16,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("check", choices=CHECKS)
    parser.add_argument("--millions", type=float, default=10.0, help="millions of parameters")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")


def run(options: argparse.Namespace) -> int:
    """Measure and print a line as each figure is there."""
    torch.set_num_threads(options.threads)
    try:
        CHECKS[options.check](options)
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
