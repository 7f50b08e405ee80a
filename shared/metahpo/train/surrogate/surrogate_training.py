"""Meta-training of the neural surrogate; see ``training.py`` for its steps."""

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
from metahpo.train.files import usable_device
from metahpo.train.loop import (
    COVERED,
    WEIGHTS,
    advance_to_end,
    check_apart,
    mean_coverage,
    to_read,
)
from metahpo.train.surrogate.calibration import calibrated
from metahpo.train.surrogate.episodes import (
    LARGEST_TARGET,
    Batch,
    Episodes,
    Shape,
    draw_shape,
    standardised,
)
from metahpo.train.surrogate.measure import TRIALS, held_out, quality
from metahpo.train.surrogate.prior import synthetic_episodes
from metahpo.train.surrogate.recorded import Family, family_odds, read_families, recorded_episodes
from metahpo.train.surrogate.variations import anonymous
from metahpo.train.training import Schedule, Training

MEASURES: tuple[str, ...] = (
    *(f"density_{count}" for count in TRIALS),
    *(f"rank_{count}" for count in TRIALS),
    *COVERED,
)
USUAL = Architecture()
# Batches whose targets say where the bars are, and the range that they cover in any case.
BORDER_BATCHES, BORDER_RANGE = 64, (-6.0, 8.0)


@dataclass(frozen=True)
class Settings(Schedule):
    """What a meta-training is; see ``Schedule`` for the others.

    Attributes:
        budget: Size of a batch, see ``episodes.draw_shape``.
        validation_tasks: At most so many a family.
        without: Tasks whose names begin so are not trained on, comma-separated.
        inner_steps: Of Reptile, on one family each (``reptile.py``); 0 for plain training.
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
    """Meta-trains the neural surrogate.

    Args:
        settings: What to do.
        families: Recorded tasks; none for a training on the prior alone.
        device: Where the network is.
        architecture: Its sizes.
        start: The network to begin with, of whatever architecture it is; a new one if not given.
    """

    before: ClassVar[dict[str, Any]] = {
        **asdict(Settings()),
        "architecture": asdict(Architecture()),
        "pretrained": "",
    }

    def __init__(
        self,
        settings: Settings,
        families: Sequence[Family] = (),
        device: torch.device | None = None,
        architecture: Architecture = USUAL,
        start: NeuralProcess | None = None,
    ) -> None:
        self.settings, self.families = settings, list(families)
        self.architecture = start.architecture if start else architecture
        self.pretrained = fingerprint(start) if start else ""
        network = copy.deepcopy(start) if start else self._new()
        if settings.steps:
            network.learners |= {frozenset(map(identity_of, f.space)) for f in families}
        super().__init__(settings, network, device, settings.inner_steps)

    def _new(self) -> NeuralProcess:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed)
            return NeuralProcess(self.architecture, self._borders(self.architecture.bars))

    # ---- episodes --------------------------------------------------------------------------

    def batch(self, step: int) -> tuple[str, Batch]:
        """Where the batch of a step comes from, and the batch."""
        rng = np.random.default_rng((self.settings.seed, step))
        shape = draw_shape(rng, self.settings.budget)
        if not self.architecture.past:
            shape = replace(shape, past_tasks=0)
        family = None
        if self.settings.inner_steps:
            # The same for all steps of an inner training.
            phase = (self.settings.seed, step // self.settings.inner_steps, 1)
            made_up, family = self._drawn_source(np.random.default_rng(phase))
        else:
            made_up = not self.families or rng.random() < self.settings.synthetic
        batch = self._drawn_batch(shape, rng, made_up, family)
        if not self.architecture.descriptions:
            # What the codes of names mean must not be learned instead.
            batch = replace(batch, description=anonymous(batch.description, rng))
        return ("synthetic" if made_up else "recorded"), batch

    def _drawn_source(self, rng: np.random.Generator) -> tuple[bool, int | None]:
        """Whether the prior, which counts as one family, or which recorded family."""
        if not self.families or rng.random() < self.settings.synthetic:
            return True, None
        return False, int(rng.choice(len(self.families), p=family_odds(self.families)))

    def _drawn_batch(
        self, shape: Shape, rng: np.random.Generator, made_up: bool, family: int | None
    ) -> Batch:
        if made_up:
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            return standardised(synthetic_episodes(shape, generator))
        return standardised(recorded_episodes(self.families, shape, rng, family))

    def _borders(self, bars: int) -> Tensor:
        """Borders that are dense where targets are: quantiles of these and of a wide range."""
        # Numbers that no step has.
        drawn = [self.batch(2**40 + number)[1] for number in range(BORDER_BATCHES)]
        targets = torch.cat([batch.targets.flatten()[:4000] for batch in drawn])
        low, high = BORDER_RANGE
        spread = torch.linspace(low, high, max(len(targets) // 3, 2))
        together = torch.cat([targets.clamp(low, high), spread])
        borders = together.quantile(torch.arange(1, bars) / bars)
        # Values that repeat (plateaus) would make bars without width.
        least = torch.arange(bars - 1) * 1e-3
        return (borders - least).cummax(0).values + least

    # ---- steps -----------------------------------------------------------------------------

    def _loss(self) -> tuple[str, Tensor, Tensor]:
        source, batch = self.batch(self.step)
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, self.device.type == "cuda"):
            answer = self.network(batch.description, batch.trials, batch.queries, batch.past)
        loss = -answer.log_density(batch.targets.clamp_max(LARGEST_TARGET)).mean()
        return source, loss, loss.detach()

    def write_weights(self, path: Path, **told: str) -> None:
        """Writes those of the averaged network, with its sizes and what else is told."""
        save_weights(self.averaged_network(), path, **told)

    def _told(self) -> dict[str, Any]:
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

    def _losses(self, told: Mapping[str, Any]) -> dict[str, list[float]]:
        total, count = told["losses"]["total"], told["losses"]["count"]
        # A checkpoint has kept of them what their mean needs.
        return {source: [total[source] / max(n, 1)] * n for source, n in count.items()}


def fingerprint(network: NeuralProcess) -> str:
    """Twelve digits that no other weights have."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


# ---- the whole -----------------------------------------------------------------------------


def train_surrogate(
    folder: Path,
    settings: Settings,
    *,
    archive: str | Path | None = None,
    validation: str | Path | None = None,
    device: str = "cpu",
    architecture: Architecture = USUAL,
    start: NeuralProcess | None = None,
    calibrate: bool = False,
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
        start: The network to begin with; a new one if not given.
        calibrate: Whether the intervals are calibrated on the validation tasks at the end.
        checkpoint_seconds: Between two checkpoints.

    Returns:
        The file of the averaged weights.

    Raises:
        TrainingError: No archive where one is needed; a task is in both archives; the device
            cannot be used; the folder's checkpoint is of other settings; nothing to calibrate on;
            no steps and nothing to start with.
        ArchiveError: There is no such archive.
    """
    if settings.steps == 0 and start is None:
        raise TrainingError("a new network takes 1 step or more")
    trained = to_read(settings, archive)
    without = [name for name in settings.without.split(",") if name]
    families = read_families(trained, without) if trained is not None else []
    others = read_families(validation) if validation is not None else []
    check_apart(_names(families), _names(others))
    studies = list(held_out(families, others, settings.validation_tasks))
    # What the training leaves out must not tell how sharp predictions of it may be either.
    kept = [_without(family, without) for family in others] if calibrate else []
    calibration = list(held_out(families, kept, settings.validation_tasks))
    if calibrate and not calibration:
        raise TrainingError(
            "to calibrate takes --validation tasks of 30 trials or more, none of them left out"
        )
    run = SurrogateTraining(settings, families, usable_device(device), architecture, start)
    measure = partial(_measured, studies) if studies else None
    advance_to_end(run, folder / WEIGHTS, MEASURES, measure, checkpoint_seconds)
    if calibrate:
        _calibrate(run, calibration, folder / WEIGHTS)
    return folder / WEIGHTS


def _calibrate(run: SurrogateTraining, studies: Sequence[Episodes], path: Path) -> None:
    network, power = calibrated(run.averaged_network(), studies)
    told = {"step": str(run.step), "settings": str(asdict(run.settings)), "power": f"{power:.4f}"}
    if run.pretrained:
        told["start"] = run.pretrained
    save_weights(network, path, **told)


def _without(family: Family, names: Sequence[str]) -> Family:
    tasks = (task for task in family.tasks if not task.name.startswith(tuple(names)))
    return replace(family, tasks=tuple(tasks))


def _names(families: Sequence[Family]) -> list[str]:
    return [task.name for family in families for task in family.tasks]


def _measured(studies: Sequence[Episodes], network: NeuralProcess) -> dict[str, str]:
    """For the log."""
    found = quality(network, studies)
    densities = {f"density_{count}": f"{q.log_density:.4f}" for count, q in found.items()}
    ranks = {f"rank_{count}": f"{q.rank_correlation:.4f}" for count, q in found.items()}
    return densities | ranks | mean_coverage([q.coverage for q in found.values()])
