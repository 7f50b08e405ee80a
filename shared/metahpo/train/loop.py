"""The meta-training of the neural surrogate in a folder, with checkpoints and a log."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from metahpo.surrogate.neural import Architecture
from metahpo.surrogate.pretrained import save_weights
from metahpo.train import TrainingError
from metahpo.train.episodes import Episodes
from metahpo.train.files import read_log, usable_device, write_log
from metahpo.train.measure import INTERVALS, TRIALS, held_out, quality
from metahpo.train.recorded import Family, read_families
from metahpo.train.surrogate import USUAL, Losses, Settings, SurrogateTraining

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
    advance_to_end(run, folder / WEIGHTS, studies, checkpoint_seconds)
    return folder / WEIGHTS


def advance_to_end(
    run: SurrogateTraining,
    weights: Path,
    studies: Sequence[Episodes] = (),
    checkpoint_seconds: float = 180.0,
) -> None:
    """Takes a training to its end, going on where a checkpoint left off.

    Args:
        run: A training that has not begun.
        weights: The file of the averaged weights; its folder holds checkpoint and log, and is
            made where there is none.
        studies: Held-out tasks, measured on now and then.
        checkpoint_seconds: Between two checkpoints.

    Raises:
        TrainingError: The folder's checkpoint is of other settings.
    """
    folder, settings = weights.parent, run.settings
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
                _save(run, weights, rows)
                saved = time.monotonic()
    _save(run, weights, rows)


def check_shares(settings: Settings) -> None:
    """Raises TrainingError where the synthetic share is none."""
    if not 0.0 <= settings.synthetic <= 1.0:
        raise TrainingError(f"the synthetic share must be from 0 to 1, not {settings.synthetic}")


def _families(settings: Settings, archive: str | Path | None) -> list[Family]:
    check_shares(settings)
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


def _save(run: SurrogateTraining, weights: Path, rows: list[dict[str, object]]) -> None:
    # The log first: rows beyond the checkpoint are dropped at a resume.
    write_log(weights.parent / LOG, COLUMNS, rows)
    run.save(weights.parent / CHECKPOINT)
    told = {"step": str(run.step), "settings": str(asdict(run.settings))}
    save_weights(run.averaged_network(), weights, **told)
