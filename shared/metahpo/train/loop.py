"""A meta-training in a folder, with checkpoints and a log, and the archives that it is of."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from metahpo.train import TrainingError
from metahpo.train.files import read_log, write_log
from metahpo.train.surrogate.measure import INTERVALS
from metahpo.train.training import Network, Schedule, Settings, Training

CHECKPOINT, WEIGHTS, LOG = "checkpoint.safetensors", "weights.safetensors", "log.csv"
COLUMNS = ("step", "seconds", "synthetic", "recorded")
COVERED = tuple(f"covered_{share}" for share in INTERVALS)


def advance_to_end(
    run: Training[Settings, Network],
    weights: Path,
    measures: Sequence[str],
    measure: Callable[[Network], dict[str, str]] | None = None,
    checkpoint_seconds: float = 180.0,
) -> None:
    """Takes a training to its end, going on where a checkpoint left off.

    Args:
        run: A training that has not begun.
        weights: The file of the averaged weights; its folder holds checkpoint and log, and is
            made where there is none.
        measures: The log's last columns.
        measure: Gives them now and then, of the averaged network.
        checkpoint_seconds: Between two checkpoints.

    Raises:
        TrainingError: The folder's checkpoint is of other settings.
    """
    folder, settings = weights.parent, run.settings
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CHECKPOINT).exists():
        run.restore(folder / CHECKPOINT)
    rows = read_log(folder / LOG, "step", run.step)

    def due(every: int) -> bool:
        return run.step % every == 0 or run.step == settings.steps

    def save() -> None:
        # The log first: rows beyond the checkpoint are dropped at a resume.
        write_log(folder / LOG, (*COLUMNS, *measures), rows)
        run.save(folder / CHECKPOINT)
        run.write_weights(weights, step=str(run.step), settings=str(asdict(settings)))

    begun, saved = time.monotonic() - run.seconds, time.monotonic()
    with tqdm(total=settings.steps, initial=run.step, disable=None) as bar:
        while run.step < settings.steps:
            run.advance()
            run.seconds = time.monotonic() - begun
            bar.update()
            if due(settings.log_every):
                row = {"step": run.step, "seconds": f"{run.seconds:.1f}", **run.mean_losses()}
                if measure and due(settings.validate_every):
                    row |= measure(run.averaged_network())
                rows.append(row)
            if time.monotonic() - saved > checkpoint_seconds:
                save()
                saved = time.monotonic()
    save()


def mean_coverage(coverages: Sequence[Sequence[float]]) -> dict[str, str]:
    """For the log: of each of ``INTERVALS``, the mean over measurements."""
    means = [math.fsum(shares) / len(shares) for shares in zip(*coverages, strict=True)]
    return {column: f"{mean:.4f}" for column, mean in zip(COVERED, means, strict=True)}


def check_shares(settings: Schedule) -> None:
    """Raises TrainingError where the synthetic share is none."""
    if not 0.0 <= settings.synthetic <= 1.0:
        raise TrainingError(f"the synthetic share must be from 0 to 1, not {settings.synthetic}")


def to_read(settings: Schedule, archive: str | Path | None) -> str | Path | None:
    """The archive to train on; none where all batches are synthetic.

    Raises:
        TrainingError: There is none where one is needed; the synthetic share is none.
    """
    check_shares(settings)
    if settings.synthetic == 1.0:
        return None
    if archive is None:
        raise TrainingError("give an --archive to train on, or --synthetic 1 to do without")
    return archive


def check_apart(trained: Iterable[str], validated: Iterable[str]) -> None:
    """Raises TrainingError where a task, by name, is both trained and validated on."""
    both = sorted(set(trained) & set(validated))
    if both:
        raise TrainingError(f"{both[0]} is both trained and validated on: keep the archives apart")
