"""Meta-training of the neural process over learning curves, in steps that resume bit for bit.

As in ``surrogate.py``: all randomness of a step follows from the seed and the step's number, and
the weights that count are the moving average at the end, unselected by validation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from metahpo.surrogate.bars import BarDistribution
from metahpo.surrogate.curve_predictions import save_weights
from metahpo.surrogate.curves import Answer, CurveArchitecture, CurveProcess
from metahpo.train import TrainingError
from metahpo.train.curve_episodes import (
    TARGETS,
    CurveBatch,
    CurveRecord,
    draw_context,
    read_curves,
    recorded_curves,
    synthetic_curves,
)
from metahpo.train.curve_measure import CONTEXTS, curve_quality, validation_batches
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
from metahpo.train.measure import INTERVALS

CHECKPOINT, WEIGHTS, LOG = "checkpoint.safetensors", "weights.safetensors", "log.csv"
COLUMNS: tuple[str, ...] = (
    "step",
    "seconds",
    "synthetic",
    "recorded",
    *(f"density_{context}" for context in CONTEXTS),
    *(f"error_{context}" for context in CONTEXTS),
    *(f"covered_{share}" for share in INTERVALS),
)
USUAL = CurveArchitecture()


@dataclass(frozen=True)
class CurveSettings:
    """What a meta-training is; kept with its checkpoint.

    Attributes:
        seed: Of everything.
        steps: In all; may be raised later.
        synthetic: Share of the batches from the prior; 1 needs no archive.
        curves: Of a batch, in all of its studies.
        rate: Largest learning rate.
        warmup: Steps until it is reached.
        cooldown: Last share of the steps, in which it falls to nothing.
        averaged: Steps that the moving average of the weights looks back.
        validate_every: Steps between two validations.
        log_every: Steps a row of the log.
    """

    seed: int = 0
    steps: int = 4000
    synthetic: float = 0.5
    curves: int = 240
    rate: float = 3e-3
    warmup: int = 100
    cooldown: float = 0.5
    averaged: int = 200
    validate_every: int = 500
    log_every: int = 50


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


class CurveTraining:
    """Meta-trains; the state is whole after each step.

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
        self.settings, self.records = settings, list(records)
        self.device = device or torch.device("cpu")
        self.step, self.seconds = 0, 0.0
        self.found: dict[str, list[float]] = {"synthetic": [], "recorded": []}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.network = CurveProcess(architecture).to(self.device)
        self.averaged = {n: p.detach().clone() for n, p in self.network.named_parameters()}
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=0.01
        )

    def batch(self, step: int) -> tuple[str, CurveBatch]:
        """Where the batch of a step comes from, and the batch."""
        rng = np.random.default_rng((self.settings.seed, step))
        context = draw_context(rng)
        studies = max(self.settings.curves // (context + TARGETS), 1)
        if not self.records or rng.random() < self.settings.synthetic:
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            return "synthetic", synthetic_curves(studies, context, generator)
        return "recorded", recorded_curves(self.records, studies, context, rng)

    def advance(self) -> float:
        """Takes one step.

        Returns:
            The mean negative log density of the targets, in the curves' own units.
        """
        source, batch = self.batch(self.step)
        batch = batch.to(self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.zero_grad()
        answer = self.network(
            batch.description, batch.curves, batch.now, batch.asked, batch.context
        )
        loss, negative = losses(self.network, answer, batch)
        loss.backward()
        clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self._average()
        self.found[source].append(negative.item())
        return negative.item()

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
            for name, parameter in self.network.named_parameters():
                self.averaged[name].lerp_(parameter, share)

    def averaged_network(self) -> CurveProcess:
        """The network with averaged weights, ready to predict."""
        network = CurveProcess(self.network.architecture)
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
            **self._told(),
            "step": self.step,
            "seconds": self.seconds,
            "found": self.found,
        }
        write_checkpoint(path, tensors, told)

    def restore(self, path: Path) -> None:
        """Goes on from a checkpoint.

        Raises:
            CheckpointError: It cannot be read, or its settings or tasks are others.
        """
        tensors, told = read_checkpoint(path, self.device)
        wanted = self._told()
        # A training may be prolonged.
        del wanted["steps"]
        check_settings(path, wanted, told)
        self.network.load_state_dict(below("network", tensors))
        self.averaged = below("average", tensors)
        # A parameter that no loss has reached yet has no state.
        states = {
            number: state
            for number in range(len(self.averaged))
            if (state := below(f"optimizer.{number}", tensors))
        }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": states, "param_groups": groups})
        self.step, self.seconds, self.found = told["step"], told["seconds"], told["found"]

    def _told(self) -> dict[str, object]:
        architecture = asdict(self.network.architecture)
        architecture["dilations"] = list(architecture["dilations"])
        tasks = [[record.name, *record.values.shape] for record in self.records]
        return {**asdict(self.settings), "architecture": architecture, "tasks": tasks}


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
    records, others = _records(settings, archive, validation)
    batches = {context: validation_batches(others, context) for context in CONTEXTS if others}
    run = CurveTraining(settings, records, usable_device(device), architecture)
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
                rows.append(_row(run, batches))
            if time.monotonic() - saved > checkpoint_seconds:
                _save(run, folder, rows)
                saved = time.monotonic()
    _save(run, folder, rows)
    return folder / WEIGHTS


def _records(
    settings: CurveSettings, archive: str | Path | None, validation: str | Path | None
) -> tuple[list[CurveRecord], list[CurveRecord]]:
    if not 0.0 <= settings.synthetic <= 1.0:
        raise TrainingError(f"the synthetic share must be from 0 to 1, not {settings.synthetic}")
    if archive is None and settings.synthetic < 1.0:
        raise TrainingError("give an --archive to train on, or --synthetic 1 to do without")
    records = read_curves(archive) if archive is not None and settings.synthetic < 1.0 else []
    others = read_curves(validation) if validation is not None else []
    both = sorted({r.name for r in records} & {r.name for r in others})
    if both:
        raise TrainingError(f"{both[0]} is both trained and validated on: keep the archives apart")
    return records, others


def _row(run: CurveTraining, batches: dict[int, list[CurveBatch]]) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(COLUMNS, "")
    row |= {"step": run.step, "seconds": f"{run.seconds:.1f}"}
    for source, found in run.found.items():
        row[source] = f"{math.fsum(found) / len(found):.4f}" if found else ""
        found.clear()
    settings = run.settings
    if batches and (run.step % settings.validate_every == 0 or run.step == settings.steps):
        network = run.averaged_network()
        qualities = {context: curve_quality(network, of) for context, of in batches.items()}
        for context, quality in qualities.items():
            row[f"density_{context}"] = f"{quality.log_density:.4f}"
            row[f"error_{context}"] = f"{quality.error:.4f}"
        for place, share in enumerate(INTERVALS):
            mean = math.fsum(q.coverage[place] for q in qualities.values()) / len(qualities)
            row[f"covered_{share}"] = f"{mean:.4f}"
    return row


def _save(run: CurveTraining, folder: Path, rows: list[dict[str, object]]) -> None:
    # The log first: rows beyond the checkpoint are dropped at a resume.
    write_log(folder / LOG, COLUMNS, rows)
    run.save(folder / CHECKPOINT)
    told = {"step": str(run.step), "settings": str(asdict(run.settings))}
    save_weights(run.averaged_network(), folder / WEIGHTS, **told)
