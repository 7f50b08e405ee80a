"""Meta-training of the neural surrogate; ``training.py`` has the steps of any training."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from metahpo.surrogate.neural.neural_process import Architecture, NeuralProcess
from metahpo.surrogate.neural.pretrained import save_weights
from metahpo.tasks.alignment import identity_of
from metahpo.train import TrainingError
from metahpo.train.files import checked_count, usable_device
from metahpo.train.intervals import COVERAGE_COLUMNS, mean_coverage
from metahpo.train.loop import WEIGHTS, check_disjoint, train_to_end, training_archive
from metahpo.train.surrogate.calibration import calibrated, calibration_studies
from metahpo.train.surrogate.episodes import (
    MAX_TARGET,
    Batch,
    Episodes,
    Shape,
    draw_shape,
    standardised,
)
from metahpo.train.surrogate.measure import TRIALS, held_out, quality
from metahpo.train.surrogate.prior import synthetic_episodes
from metahpo.train.surrogate.recorded import recorded_episodes
from metahpo.train.surrogate.task_families import Family, family_odds, read_families
from metahpo.train.surrogate.variations import anonymous
from metahpo.train.training import Schedule, Training

MEASURES: tuple[str, ...] = (
    *(f"density_{count}" for count in TRIALS),
    *(f"rank_{count}" for count in TRIALS),
    *COVERAGE_COLUMNS,
)
DEFAULT_ARCHITECTURE = Architecture()
# Batches whose targets determine the borders of the bars, and the range always covered.
BORDER_BATCHES, BORDER_RANGE = 64, (-6.0, 8.0)


@dataclass(frozen=True)
class Settings(Schedule):
    """Settings of a meta-training; ``Schedule`` has the others.

    Attributes:
        budget: Size of a batch, see ``episodes.draw_shape``.
        validation_tasks: Upper bound of the validation tasks taken from a family.
        without: Tasks whose names start with one of these, comma-separated, are left out.
        inner_steps: Inner steps of Reptile, on one family (``reptile.py``); 0 for plain training.
    """

    seed: int = 0
    steps: int = 100_000
    synthetic: float = 0.5
    rate: float = 1e-3
    warmup: int = 500
    cooldown: float = 0.3
    averaged: int = 1000
    validate_every: int = 2000
    log_every: int = 100
    budget: int = 6000
    validation_tasks: int = 8
    without: str = ""
    inner_steps: int = 0


class SurrogateTraining(Training[Settings, NeuralProcess]):
    """Meta-training of the neural surrogate.

    Args:
        settings: Schedule and settings.
        families: Recorded tasks; empty to train on the prior only.
        device: Where to train; the CPU by default.
        architecture: Sizes of a new network.
        start: The network to start from, whatever its architecture; a new one by default.
    """

    legacy_metadata: ClassVar[dict[str, Any]] = {
        **asdict(Settings()),
        "architecture": asdict(Architecture()),
        "pretrained": "",
    }

    def __init__(
        self,
        settings: Settings,
        families: Sequence[Family] = (),
        device: torch.device | None = None,
        architecture: Architecture = DEFAULT_ARCHITECTURE,
        start: NeuralProcess | None = None,
    ) -> None:
        self.settings, self.families = settings, list(families)
        self.architecture = start.architecture if start else architecture
        self.pretrained = fingerprint(start) if start else ""
        network = copy.deepcopy(start) if start else self._new_network()
        if settings.steps:
            network.learners |= {frozenset(map(identity_of, f.space)) for f in families}
        super().__init__(settings, network, device, settings.inner_steps)

    def _new_network(self) -> NeuralProcess:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            return NeuralProcess(self.architecture, self._borders(self.architecture.bars))

    def _borders(self, bars: int) -> Tensor:
        """Place the borders at quantiles of the targets, mixed with an even grid."""
        # Step numbers that no training reaches.
        batches = [self.batch(2**40 + number)[1] for number in range(BORDER_BATCHES)]
        targets = torch.cat([batch.targets.flatten()[:4000] for batch in batches])
        low, high = BORDER_RANGE
        even = torch.linspace(low, high, max(len(targets) // 3, 2))
        together = torch.cat([targets.clamp(low, high), even])
        borders = together.quantile(torch.arange(1, bars) / bars)
        # Repeated values (plateaus) would make bars of width zero.
        min_borders = torch.arange(bars - 1) * 1e-3
        return (borders - min_borders).cummax(0).values + min_borders

    # ---- batches ---------------------------------------------------------------------------

    def batch(self, step: int) -> tuple[str, Batch]:
        """Return the batch of a step: its source, ``synthetic`` or ``recorded``, and itself."""
        rng = np.random.default_rng((self.settings.seed, step))
        shape = draw_shape(rng, self.settings.budget)
        if not self.architecture.past:
            shape = replace(shape, past_tasks=0)
        family = None
        if self.settings.inner_steps:
            # The same source for all steps of an inner training.
            phase = (self.settings.seed, step // self.settings.inner_steps, 1)
            synthetic, family = self._draw_source(np.random.default_rng(phase))
        else:
            synthetic = not self.families or rng.random() < self.settings.synthetic
        batch = self._draw_batch(shape, rng, synthetic, family)
        if not self.architecture.descriptions:
            # Otherwise the network could learn what the codes of the names stand for.
            batch = replace(batch, description=anonymous(batch.description, rng))
        return ("synthetic" if synthetic else "recorded"), batch

    def _draw_source(self, rng: np.random.Generator) -> tuple[bool, int | None]:
        """Draw whether to use the prior, which counts as one family, or which recorded family."""
        if not self.families or rng.random() < self.settings.synthetic:
            return True, None
        return False, int(rng.choice(len(self.families), p=family_odds(self.families)))

    def _draw_batch(
        self, shape: Shape, rng: np.random.Generator, synthetic: bool, family: int | None
    ) -> Batch:
        if synthetic:
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            return standardised(synthetic_episodes(shape, generator))
        return standardised(recorded_episodes(self.families, shape, rng, family))

    # ---- steps -----------------------------------------------------------------------------

    def _loss(self) -> tuple[str, Tensor, Tensor]:
        source, batch = self.batch(self.step)
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, self.device.type == "cuda"):
            predicted = self.network(batch.description, batch.trials, batch.queries, batch.past)
        loss = -predicted.log_density(batch.targets.clamp_max(MAX_TARGET)).mean()
        return source, loss, loss.detach()

    def write_weights(self, path: Path, **metadata: str) -> None:
        """Write the averaged weights with the network's sizes and more metadata."""
        save_weights(self.averaged_network(), path, **metadata)

    def _metadata(self) -> dict[str, Any]:
        return {
            "settings": asdict(self.settings),
            "architecture": asdict(self.network.architecture),
            "families": [[len(f.space), len(f.tasks), f.tasks[0].name] for f in self.families],
            "pretrained": self.pretrained,
            "losses": {
                "total": {source: math.fsum(losses) for source, losses in self.losses.items()},
                "count": {source: len(losses) for source, losses in self.losses.items()},
            },
        }

    def _losses_in(self, metadata: Mapping[str, Any]) -> dict[str, list[float]]:
        total, count = metadata["losses"]["total"], metadata["losses"]["count"]
        # Only sums and counts are stored, which determine the means.
        return {
            source: [total[source] / max(n, 1)] * checked_count(n, self.step)
            for source, n in count.items()
        }


def fingerprint(network: NeuralProcess) -> str:
    """Return the first twelve hexadecimal digits of a hash of the weights."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


# ---- the entry -----------------------------------------------------------------------------


def train_surrogate(
    folder: Path,
    settings: Settings,
    *,
    archive: str | Path | None = None,
    validation: str | Path | None = None,
    device: str = "cpu",
    architecture: Architecture = DEFAULT_ARCHITECTURE,
    start: NeuralProcess | None = None,
    calibrate: bool = False,
    checkpoint_seconds: float = 180.0,
) -> Path:
    """Meta-train in a folder, continuing from a checkpoint if there is one.

    Args:
        folder: For checkpoint, log and weights; created if necessary.
        settings: Settings of the training; to continue, those of the checkpoint.
        archive: Recorded tasks to train on; required unless all batches are synthetic.
        validation: An archive of other tasks, on which predictions are evaluated.
        device: PyTorch device of the network.
        architecture: Sizes of a new network.
        start: The network to start from; a new one by default.
        calibrate: Whether to calibrate the intervals on the validation tasks at the end.
        checkpoint_seconds: Time between two checkpoints, in seconds.

    Returns:
        The file with the averaged weights.

    Raises:
        TrainingError: An archive is required but missing, a task is in both archives, the device
            cannot be used, the checkpoint has different settings, there are no tasks to
            calibrate on, or there are neither steps nor a network to start from.
        ArchiveError: There is no such archive.
    """
    if settings.steps == 0 and start is None:
        raise TrainingError("training from scratch needs at least one step; raise --steps")
    path = training_archive(settings, archive)
    without = [name for name in settings.without.split(",") if name]
    families = read_families(path, without) if path is not None else []
    others = read_families(validation) if validation is not None else []
    check_disjoint(_names(families), _names(others))
    studies = list(held_out(families, others, settings.validation_tasks))
    calibration = (
        calibration_studies(families, others, without, settings.validation_tasks)
        if calibrate
        else []
    )
    run = SurrogateTraining(settings, families, usable_device(device), architecture, start)
    measure = partial(_measured, studies) if studies else None
    train_to_end(run, folder / WEIGHTS, MEASURES, measure, checkpoint_seconds)
    if calibrate:
        _calibrate(run, calibration, folder / WEIGHTS)
    return folder / WEIGHTS


def _calibrate(run: SurrogateTraining, studies: Sequence[Episodes], path: Path) -> None:
    network, power = calibrated(run.averaged_network(), studies)
    metadata = {
        "step": str(run.step),
        "settings": str(asdict(run.settings)),
        "power": f"{power:.4f}",
    }
    if run.pretrained:
        metadata["start"] = run.pretrained
    save_weights(network, path, **metadata)


def _names(families: Sequence[Family]) -> list[str]:
    return [task.name for family in families for task in family.tasks]


def _measured(studies: Sequence[Episodes], network: NeuralProcess) -> dict[str, str]:
    """Return the entries of the log for the validation studies."""
    results = quality(network, studies)
    densities = {f"density_{count}": f"{q.log_density:.4f}" for count, q in results.items()}
    ranks = {f"rank_{count}": f"{q.rank_correlation:.4f}" for count, q in results.items()}
    return densities | ranks | mean_coverage([q.coverage for q in results.values()])
