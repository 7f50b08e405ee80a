"""Meta-training of the network over learning curves; ``training.py`` has the steps of any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metahpo.surrogate.curves.curve_predictions import save_weights
from metahpo.surrogate.curves.curve_process import CurveArchitecture, CurveOutput, CurveProcess
from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.train.curves.curve_batches import TARGETS, CurveBatch, draw_context
from metahpo.train.curves.curve_measure import CONTEXTS, curve_quality, validation_batches
from metahpo.train.curves.curve_prior import synthetic_curves
from metahpo.train.curves.recorded_curves import CurveRecord, read_curves, recorded_curves
from metahpo.train.files import usable_device
from metahpo.train.intervals import COVERAGE_COLUMNS, mean_coverage
from metahpo.train.loop import WEIGHTS, check_disjoint, train_to_end, training_archive
from metahpo.train.training import Schedule, Training

MEASURES: tuple[str, ...] = (
    *(f"density_{context}" for context in CONTEXTS),
    *(f"error_{context}" for context in CONTEXTS),
    *COVERAGE_COLUMNS,
)
DEFAULT_ARCHITECTURE = CurveArchitecture()


@dataclass(frozen=True)
class CurveSettings(Schedule):
    """Settings of a meta-training; ``Schedule`` has the others.

    Attributes:
        curves: Number of curves in a batch, over all of its studies.
    """

    seed: int = 0
    steps: int = 4000
    synthetic: float = 0.5
    rate: float = 3e-3
    warmup: int = 100
    cooldown: float = 0.5
    averaged: int = 200
    validate_every: int = 500
    log_every: int = 50
    curves: int = 240


def losses(network: CurveProcess, output: CurveOutput, batch: CurveBatch) -> tuple[Tensor, Tensor]:
    """Compute the loss of a batch.

    Laplace densities fit locations and scales to the targets, before and after attention to the
    context. The histogram gives gradients to its masses only, since its density is constant
    within a bar.

    Returns:
        The loss, and its part that is the mean negative log density in own units, detached.
    """
    targets = output.observed.relative(batch.targets)
    usable = targets.isfinite() & (output.observed.reports > 0).unsqueeze(-1)
    initial = _laplace(targets, *output.initial)[usable].mean()
    targets, usable = targets[:, batch.context :], usable[:, batch.context :]
    location, scale = output.location, output.scale
    final = _laplace(targets, location, scale)[usable].mean()
    bars = BarDistribution(output.logits, network.borders, network.tails)
    standardised = (targets - location.detach()) / scale.detach()
    density = bars.log_density(standardised.nan_to_num(0.0)) - scale.detach().log()
    negative_log_density = -density[usable].mean()
    return initial + final + negative_log_density, negative_log_density.detach()


def _laplace(targets: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """Return negative log densities of Laplace distributions."""
    distance = (targets.nan_to_num(0.0) - location).abs()
    return distance / scale + (2.0 * scale).log()


class CurveTraining(Training[CurveSettings, CurveProcess]):
    """Meta-training of the network over learning curves.

    Args:
        settings: Schedule and settings.
        records: Recorded tasks; empty to train on the prior only.
        device: Where to train; the CPU by default.
        architecture: Sizes of the network.
    """

    def __init__(
        self,
        settings: CurveSettings,
        records: Sequence[CurveRecord] = (),
        device: torch.device | None = None,
        architecture: CurveArchitecture = DEFAULT_ARCHITECTURE,
    ) -> None:
        self.records = list(records)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = CurveProcess(architecture)
        super().__init__(settings, network, device)

    def batch(self, step: int) -> tuple[str, CurveBatch]:
        """Return the batch of a step: its source, ``synthetic`` or ``recorded``, and itself."""
        rng = np.random.default_rng((self.settings.seed, step))
        context = draw_context(rng)
        studies = max(self.settings.curves // (context + TARGETS), 1)
        if not self.records or rng.random() < self.settings.synthetic:
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            return "synthetic", synthetic_curves(studies, context, generator)
        return "recorded", recorded_curves(self.records, studies, context, rng)

    def _loss(self) -> tuple[str, Tensor, Tensor]:
        source, batch = self.batch(self.step)
        batch = batch.to(self.device)
        output = self.network(
            batch.description, batch.curves, batch.now, batch.queries, batch.context
        )
        return source, *losses(self.network, output, batch)

    def write_weights(self, path: Path, **metadata: str) -> None:
        """Write the averaged weights with the network's sizes and more metadata."""
        save_weights(self.averaged_network(), path, **metadata)

    def _metadata(self) -> dict[str, Any]:
        return {
            **asdict(self.settings),
            "architecture": asdict(self.network.architecture),
            "tasks": [[record.name, *record.values.shape] for record in self.records],
            "found": self.losses,
        }

    def _losses_in(self, metadata: Mapping[str, Any]) -> dict[str, list[float]]:
        return metadata["found"]


# ---- the entry -----------------------------------------------------------------------------


def train_curves(
    folder: Path,
    settings: CurveSettings,
    *,
    archive: str | Path | None = None,
    validation: str | Path | None = None,
    device: str = "cpu",
    architecture: CurveArchitecture = DEFAULT_ARCHITECTURE,
    checkpoint_seconds: float = 180.0,
) -> Path:
    """Meta-train in a folder, continuing from a checkpoint if there is one.

    Args:
        folder: For checkpoint, log and weights; created if necessary.
        settings: Settings of the training; to continue, those of the checkpoint.
        archive: Recorded tasks to train on; required unless all batches are synthetic.
        validation: An archive of other tasks, on which predictions are evaluated.
        device: PyTorch device of the network.
        architecture: Sizes of the network.
        checkpoint_seconds: Time between two checkpoints, in seconds.

    Returns:
        The file with the averaged weights.

    Raises:
        TrainingError: An archive is required but missing or has no curves, a task is in both
            archives, the device cannot be used, or the checkpoint has different settings.
        ArchiveError: There is no such archive.
    """
    path = training_archive(settings, archive)
    records = read_curves(path) if path is not None else []
    others = read_curves(validation) if validation is not None else []
    check_disjoint([record.name for record in records], [record.name for record in others])
    batches = {context: validation_batches(others, context) for context in CONTEXTS}
    run = CurveTraining(settings, records, usable_device(device), architecture)
    measure = partial(_measured, batches) if others else None
    train_to_end(run, folder / WEIGHTS, MEASURES, measure, checkpoint_seconds)
    return folder / WEIGHTS


def _measured(
    batches: Mapping[int, Sequence[CurveBatch]], network: CurveProcess
) -> dict[str, str]:
    """Return the entries of the log for the validation studies."""
    results = {context: curve_quality(network, studies) for context, studies in batches.items()}
    densities = {f"density_{context}": f"{q.log_density:.4f}" for context, q in results.items()}
    errors = {f"error_{context}": f"{q.error:.4f}" for context, q in results.items()}
    return densities | errors | mean_coverage([q.coverage for q in results.values()])
