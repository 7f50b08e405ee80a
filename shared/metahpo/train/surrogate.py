"""Meta-training of the neural surrogate, in steps that can resume bit for bit.

All randomness of a step follows from the seed and the step's number; weights, their moving
average and the optimizer's state are in the checkpoint. There is no selection by validation:
the weights that count are the moving average at the end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from metahpo.surrogate.neural import Architecture, NeuralProcess
from metahpo.surrogate.pretrained import save_weights
from metahpo.train import TrainingError
from metahpo.train.episodes import Batch, Episodes, draw_shape, standardised
from metahpo.train.files import (
    below,
    check_settings,
    read_checkpoint,
    read_log,
    under,
    usable_device,
    write_checkpoint,
    write_log,
)
from metahpo.train.measure import INTERVALS, TRIALS, held_out, quality
from metahpo.train.prior import synthetic_episodes
from metahpo.train.recorded import Family, read_families, recorded_episodes

CHECKPOINT, WEIGHTS, LOG = "checkpoint.safetensors", "weights.safetensors", "log.csv"
COLUMNS: tuple[str, ...] = (
    "step",
    "seconds",
    "synthetic",
    "recorded",
    *(f"density_{count}" for count in TRIALS),
    *(f"rank_{count}" for count in TRIALS),
    *(f"covered_{share}" for share in INTERVALS),
)
USUAL = Architecture()
# A score beyond this is as far as one needs to know.
LARGEST_TARGET = 10.0
# Batches whose targets say where the bars are, and the range that they cover in any case.
BORDER_BATCHES, BORDER_RANGE = 64, (-6.0, 8.0)


@dataclass(frozen=True)
class Settings:
    """What a meta-training is; kept with its checkpoint.

    Attributes:
        seed: Of everything.
        steps: In all; may be raised later.
        synthetic: Share of the batches from the prior; 1 needs no archive.
        budget: Size of a batch, see ``episodes.draw_shape``.
        rate: Largest learning rate.
        warmup: Steps until it is reached.
        cooldown: Last share of the steps, in which it falls to nothing.
        averaged: Steps that the moving average of the weights looks back.
        validate_every: Steps between two validations.
        validation_tasks: At most so many a family.
        log_every: Steps a row of the log.
        without: Tasks whose names begin so are not trained on, comma-separated.
    """

    seed: int = 0
    steps: int = 100_000
    synthetic: float = 0.5
    budget: int = 6000
    rate: float = 1e-3
    warmup: int = 500
    cooldown: float = 0.3
    averaged: int = 1000
    validate_every: int = 2000
    validation_tasks: int = 8
    log_every: int = 100
    without: str = ""


@dataclass
class Losses:
    """Sums since the log's last row, by where episodes came from."""

    total: dict[str, float] = field(default_factory=lambda: {"synthetic": 0.0, "recorded": 0.0})
    count: dict[str, int] = field(default_factory=lambda: {"synthetic": 0, "recorded": 0})

    def add(self, source: str, loss: float) -> None:
        """One batch's."""
        self.total[source] += loss
        self.count[source] += 1

    def mean(self, source: str) -> str:
        """For the log; empty where there was none."""
        return f"{self.total[source] / self.count[source]:.4f}" if self.count[source] else ""


class SurrogateTraining:
    """Meta-trains; the state is whole after each step.

    Args:
        settings: What to do.
        families: Recorded tasks; none for a training on the prior alone.
        device: Where the network is.
        architecture: Its sizes.
    """

    def __init__(
        self,
        settings: Settings,
        families: Sequence[Family] = (),
        device: torch.device | None = None,
        architecture: Architecture = USUAL,
    ) -> None:
        self.settings, self.families = settings, list(families)
        self.device = device or torch.device("cpu")
        self.step, self.seconds, self.losses = 0, 0.0, Losses()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = NeuralProcess(architecture, self._borders(architecture.bars))
        self.network = network.to(self.device)
        self.averaged = {n: p.detach().clone() for n, p in self._parameters()}
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01
        )

    def _parameters(self) -> list[tuple[str, Tensor]]:
        return list(self.network.named_parameters())

    # ---- episodes --------------------------------------------------------------------------

    def batch(self, step: int) -> tuple[str, Batch]:
        """Where the batch of a step comes from, and the batch."""
        rng = np.random.default_rng((self.settings.seed, step))
        shape = draw_shape(rng, self.settings.budget)
        made_up = not self.families or rng.random() < self.settings.synthetic
        if made_up:
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            return "synthetic", standardised(synthetic_episodes(shape, generator))
        return "recorded", standardised(recorded_episodes(self.families, shape, rng))

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

    def advance(self) -> float:
        """Takes one step.

        Returns:
            The loss: the mean negative log density of the queries' scores.
        """
        source, batch = self.batch(self.step)
        batch = batch.to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, self.device.type == "cuda"):
            answer = self.network(batch.description, batch.trials, batch.queries, batch.past)
        loss = -answer.log_density(batch.targets.clamp_max(LARGEST_TARGET)).mean()
        loss.backward()
        clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._average()
        self.losses.add(source, loss.item())
        return loss.item()

    @property
    def rate(self) -> float:
        """The learning rate of the next step: warm-up, plateau, and a fall at the end."""
        done = (self.step + 1) / self.settings.warmup
        left = (self.settings.steps - self.step) / (self.settings.cooldown * self.settings.steps)
        return self.settings.rate * min(1.0, done, left)

    def _average(self) -> None:
        # Shorter at first, when the weights still move fast.
        share = 1.0 / min(self.settings.averaged, 1 + self.step / 4)
        with torch.no_grad():
            for name, parameter in self._parameters():
                self.averaged[name].lerp_(parameter, share)

    def averaged_network(self) -> NeuralProcess:
        """The network with averaged weights, ready to predict."""
        network = NeuralProcess(self.network.architecture)
        network.load_state_dict({**self.network.state_dict(), **self.averaged})
        return network.to(self.device).eval().requires_grad_(False)

    # ---- checkpoints -----------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Writes everything that a resumed training needs."""
        tensors = {
            **under("network", self.network.state_dict()),
            **under("average", self.averaged),
        }
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= under(f"optimizer.{number}", state)
        told = {
            "settings": asdict(self.settings),
            "architecture": asdict(self.network.architecture),
            "families": self._told_families(),
            "step": self.step,
            "seconds": self.seconds,
            "losses": asdict(self.losses),
        }
        write_checkpoint(path, tensors, told)

    def restore(self, path: Path) -> None:
        """Goes on from a checkpoint.

        Raises:
            CheckpointError: It cannot be read, or its settings or tasks are others.
        """
        tensors, told = read_checkpoint(path, self.device)
        wanted = {
            **asdict(self.settings),
            "architecture": asdict(self.network.architecture),
            "families": self._told_families(),
        }
        # A training may be prolonged.
        del wanted["steps"]
        check_settings(path, wanted, {**told["settings"], **told})
        self.network.load_state_dict(below("network", tensors))
        self.averaged = below("average", tensors)
        states = {
            number: below(f"optimizer.{number}", tensors)
            for number in range(len(self._parameters()))
        }
        groups = self.optimizer.state_dict()["param_groups"]
        if told["step"]:
            self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        self.step, self.seconds = told["step"], told["seconds"]
        self.losses = Losses(**told["losses"])

    def _told_families(self) -> list[Any]:
        return [[len(f.space), len(f.tasks), f.tasks[0].name] for f in self.families]


def train_surrogate(
    folder: Path,
    settings: Settings,
    *,
    archive: str | Path | None = None,
    validation: str | Path | None = None,
    device: str = "cpu",
    architecture: Architecture = USUAL,
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
        TrainingError: No archive where one is needed; a task is in both archives; the device
            cannot be used; the folder's checkpoint is of other settings.
        ArchiveError: There is no such archive.
    """
    families = _families(settings, archive)
    studies = _studies(settings, families, validation)
    run = SurrogateTraining(settings, families, usable_device(device), architecture)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CHECKPOINT).exists():
        run.restore(folder / CHECKPOINT)
    rows = read_log(folder / LOG, "step", run.step)
    begun, saved = time.monotonic() - run.seconds, time.monotonic()
    with tqdm(total=settings.steps, initial=run.step, disable=None) as bar:
        while run.step < settings.steps:
            run.advance()
            run.seconds = time.monotonic() - begun
            bar.update()
            if run.step % settings.log_every == 0 or run.step == settings.steps:
                rows.append(_row(run, studies))
            if time.monotonic() - saved > checkpoint_seconds:
                _save(run, folder, rows)
                saved = time.monotonic()
    _save(run, folder, rows)
    return folder / WEIGHTS


def _families(settings: Settings, archive: str | Path | None) -> list[Family]:
    if not 0.0 <= settings.synthetic <= 1.0:
        raise TrainingError(f"the synthetic share must be from 0 to 1, not {settings.synthetic}")
    if archive is not None and settings.synthetic < 1.0:
        return read_families(archive, [name for name in settings.without.split(",") if name])
    if settings.synthetic < 1.0:
        raise TrainingError("give an --archive to train on, or --synthetic 1 to do without")
    return []


def _studies(
    settings: Settings, families: Sequence[Family], validation: str | Path | None
) -> list[Episodes]:
    if validation is None:
        return []
    others = read_families(validation)
    known = {task.name for family in families for task in family.tasks}
    both = sorted(known & {task.name for family in others for task in family.tasks})
    if both:
        raise TrainingError(f"{both[0]} is both trained and validated on: keep the archives apart")
    return list(held_out(families, others, settings.validation_tasks))


def _row(run: SurrogateTraining, studies: Sequence[Episodes]) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(COLUMNS, "")
    row |= {"step": run.step, "seconds": f"{run.seconds:.1f}"}
    row |= {source: run.losses.mean(source) for source in run.losses.count}
    run.losses = Losses()
    settings = run.settings
    if studies and (run.step % settings.validate_every == 0 or run.step == settings.steps):
        found = quality(run.averaged_network(), studies)
        for count, of_count in found.items():
            row[f"density_{count}"] = f"{of_count.log_density:.4f}"
            row[f"rank_{count}"] = f"{of_count.rank_correlation:.4f}"
        for place, share in enumerate(INTERVALS):
            mean = math.fsum(q.coverage[place] for q in found.values()) / len(found)
            row[f"covered_{share}"] = f"{mean:.4f}"
    return row


def _save(run: SurrogateTraining, folder: Path, rows: list[dict[str, object]]) -> None:
    # The log first: rows beyond the checkpoint are dropped at a resume.
    write_log(folder / LOG, COLUMNS, rows)
    run.save(folder / CHECKPOINT)
    told = {"step": str(run.step), "settings": str(asdict(run.settings))}
    save_weights(run.averaged_network(), folder / WEIGHTS, **told)
