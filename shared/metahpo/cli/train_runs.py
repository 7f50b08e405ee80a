"""The calls behind ``metahpo train``: from parsed arguments to a training."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import Any

from metahpo.train import TrainingError

# Stands for the weights of the package; no file has an empty name.
SHIPPED = ""
# Arguments of the surrogate's training that do not apply to fine-tuning.
FROM_SCRATCH_ONLY = (
    "validation",
    "start",
    "calibrate",
    "inner_steps",
    "without_past",
    "without_descriptions",
)


def run_optimizer(options: argparse.Namespace) -> None:
    """Train the learned optimizer."""
    import torch

    from metahpo.train.optimizer.optimizer_settings import Settings
    from metahpo.train.optimizer.optimizer_training import train_optimizer

    torch.set_num_threads(options.threads)
    settings = replace(
        _settings(options, Settings()),
        shortest=min(50, options.longest),
        mnist=options.data is not None,
        compiled=options.compile,
    )
    train_optimizer(options.to, settings, data=options.data, device=options.device)


def run_surrogate(options: argparse.Namespace) -> str | None:
    """Train or fine-tune the neural surrogate; return a summary of a fine-tuning."""
    import torch

    torch.set_num_threads(options.threads)
    if options.from_pretrained is not None:
        return _fine_tune(options)
    _train_surrogate(options)
    return None


def _train_surrogate(options: argparse.Namespace) -> None:
    from metahpo.train.surrogate.fine_tuning import read_pretrained
    from metahpo.train.surrogate.surrogate_training import (
        DEFAULT_ARCHITECTURE,
        Settings,
        train_surrogate,
    )

    start = None if options.start is None else read_pretrained(options.start or None)[1]
    if start and (options.without_past or options.without_descriptions):
        raise TrainingError(
            "--start determines the network's inputs: omit --without-past and "
            "--without-descriptions"
        )
    architecture = replace(
        DEFAULT_ARCHITECTURE,
        past=not options.without_past,
        descriptions=not options.without_descriptions,
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
    from metahpo.train.surrogate.fine_tuning import DEFAULT_SETTINGS, tune_surrogate

    if options.archive is None:
        raise TrainingError("--from-pretrained requires --archive, the tasks to fine-tune on")
    if options.steps == 0:
        raise TrainingError("--steps 0 requires --start, not --from-pretrained")
    for name in FROM_SCRATCH_ONLY:
        if getattr(options, name) not in (None, False, 0):
            flag = "--" + name.replace("_", "-")
            raise TrainingError(f"{flag} does not apply to fine-tuning: omit --from-pretrained")
    outcome = tune_surrogate(
        options.to,
        _settings(options, DEFAULT_SETTINGS),
        options.archive,
        options.from_pretrained or None,
        device=options.device,
    )
    return str(outcome)


def run_curves(options: argparse.Namespace) -> None:
    """Train the predictor of learning curves."""
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


def _settings(options: argparse.Namespace, defaults: Any) -> Any:
    """Return the defaults, replaced by the arguments that were given."""
    given = {name: getattr(options, name, None) for name in asdict(defaults)}
    return replace(defaults, **{name: value for name, value in given.items() if value is not None})
