"""Meta-training of the neural process over learning curves; see ``training.py`` for its steps."""

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
from metahpo.surrogate.curves.curve_process import Answer, CurveArchitecture, CurveProcess
from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.train.curves.curve_episodes import (
    TARGETS,
    CurveBatch,
    CurveRecord,
    draw_context,
    read_curves,
    recorded_curves,
    synthetic_curves,
)
from metahpo.train.curves.curve_measure import CONTEXTS, curve_quality, validation_batches
from metahpo.train.files import usable_device
from metahpo.train.loop import (
    COVERED,
    WEIGHTS,
    advance_to_end,
    check_apart,
    mean_coverage,
    to_read,
)
from metahpo.train.training import Schedule, Training

MEASURES: tuple[str, ...] = (
    *(f"density_{context}" for context in CONTEXTS),
    *(f"error_{context}" for context in CONTEXTS),
    *COVERED,
)
USUAL = CurveArchitecture()


@dataclass(frozen=True)
class CurveSettings(Schedule):
    """What a meta-training is; see ``Schedule`` for the others.

    Attributes:
        curves: Of a batch, in all of its studies.
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


def losses(network: CurveProcess, answer: Answer, batch: CurveBatch) -> tuple[Tensor, Tensor]:
    """What is minimised, and the mean negative log density in own units, which it contains.

    A Laplace density draws locations and scales to the targets, before and after the other
    curves are heard; the histogram has gradients for its masses alone, since it does not change
    as it moves within a bar.
    """
    targets = answer.seen.relative(batch.targets)
    useful = targets.isfinite() & (answer.seen.reports > 0).unsqueeze(-1)
    first = _laplace(targets, *answer.first)[useful].mean()
    targets, useful = targets[:, batch.context :], useful[:, batch.context :]
    location, scale = answer.location, answer.scale
    moved = _laplace(targets, location, scale)[useful].mean()
    bars = BarDistribution(answer.logits, network.borders, network.tails)
    standard = (targets - location.detach()) / scale.detach()
    density = bars.log_density(standard.nan_to_num(0.0)) - scale.detach().log()
    negative = -density[useful].mean()
    return first + moved + negative, negative.detach()


def _laplace(targets: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    distance = (targets.nan_to_num(0.0) - location).abs()
    return distance / scale + (2.0 * scale).log()


class CurveTraining(Training[CurveSettings, CurveProcess]):
    """Meta-trains the neural process over learning curves.

    Args:
        settings: What to do.
        records: Recorded tasks; none for a training on the prior alone.
        device: Where the network is.
        architecture: Its sizes.
    """

    def __init__(
        self,
        settings: CurveSettings,
        records: Sequence[CurveRecord] = (),
        device: torch.device | None = None,
        architecture: CurveArchitecture = USUAL,
    ) -> None:
        self.records = list(records)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = CurveProcess(architecture)
        super().__init__(settings, network, device)

    def batch(self, step: int) -> tuple[str, CurveBatch]:
        """Where the batch of a step comes from, and the batch."""
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
        answer = self.network(
            batch.description, batch.curves, batch.now, batch.asked, batch.context
        )
        return source, *losses(self.network, answer, batch)

    def write_weights(self, path: Path, **told: str) -> None:
        """Writes those of the averaged network, with its sizes and what else is told."""
        save_weights(self.averaged_network(), path, **told)

    def _told(self) -> dict[str, Any]:
        return {
            **asdict(self.settings),
            "architecture": asdict(self.network.architecture),
            "tasks": [[record.name, *record.values.shape] for record in self.records],
            "found": self.losses,
        }

    def _losses(self, told: Mapping[str, Any]) -> dict[str, list[float]]:
        return told["found"]


# ---- the whole -----------------------------------------------------------------------------


def train_curves(
    folder: Path,
    settings: CurveSettings,
    *,
    archive: str | Path | None = None,
    validation: str | Path | None = None,
    device: str = "cpu",
    architecture: CurveArchitecture = USUAL,
    checkpoint_seconds: float = 180.0,
) -> Path:
    """Meta-trains in a folder, going on where a checkpoint there left off.

    Args:
        folder: For checkpoint, log and weights; made where there is none.
        settings: Of a new meta-training, or the same as before to go on.
        archive: Recorded tasks to train on; needed unless all batches are synthetic.
        validation: An archive of other tasks, measured on now and then.
        device: Where the network is.
        architecture: Sizes of a new network.
        checkpoint_seconds: Between two checkpoints.

    Returns:
        The file of the averaged weights.

    Raises:
        TrainingError: No archive where one is needed, or one without curves; a task is in both
            archives; the device cannot be used; the folder's checkpoint is of other settings.
        ArchiveError: There is no such archive.
    """
    trained = to_read(settings, archive)
    records = read_curves(trained) if trained is not None else []
    others = read_curves(validation) if validation is not None else []
    check_apart([record.name for record in records], [record.name for record in others])
    batches = {context: validation_batches(others, context) for context in CONTEXTS}
    run = CurveTraining(settings, records, usable_device(device), architecture)
    measure = partial(_measured, batches) if others else None
    advance_to_end(run, folder / WEIGHTS, MEASURES, measure, checkpoint_seconds)
    return folder / WEIGHTS


def _measured(batches: Mapping[int, list[CurveBatch]], network: CurveProcess) -> dict[str, str]:
    """For the log."""
    found = {context: curve_quality(network, of) for context, of in batches.items()}
    densities = {f"density_{context}": f"{q.log_density:.4f}" for context, q in found.items()}
    errors = {f"error_{context}": f"{q.error:.4f}" for context, q in found.items()}
    return densities | errors | mean_coverage([q.coverage for q in found.values()])
