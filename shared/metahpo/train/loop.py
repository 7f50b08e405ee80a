"""Running a meta-training in a folder, with checkpoints and a log; checks of its archives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from metahpo.train import TrainingError
from metahpo.train.files import read_log, write_log
from metahpo.train.training import Network, Schedule, Settings, Training

CHECKPOINT, WEIGHTS, LOG = "checkpoint.safetensors", "weights.safetensors", "log.csv"
COLUMNS = ("step", "seconds", "synthetic", "recorded")


def train_to_end(
    run: Training[Settings, Network],
    weights: Path,
    measures: Sequence[str],
    measure: Callable[[Network], Mapping[str, str]] | None = None,
    checkpoint_seconds: float = 180.0,
) -> None:
    """Run a training to its last step, continuing from a checkpoint if there is one.

    Args:
        run: A training that has not started yet.
        weights: Where the averaged weights are written. The checkpoint and the log are in the
            same folder, which is created if necessary.
        measures: The last columns of the log.
        measure: Computes these columns for the averaged network; called every
            ``validate_every`` steps.
        checkpoint_seconds: Time between two checkpoints, in seconds.

    Raises:
        CheckpointError: The checkpoint in the folder has different settings.
    """
    folder, settings = weights.parent, run.settings
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CHECKPOINT).exists():
        run.restore(folder / CHECKPOINT)
    rows = read_log(folder / LOG, "step", run.step)
    started, saved = time.monotonic() - run.seconds, time.monotonic()
    with tqdm(total=settings.steps, initial=run.step, disable=None) as bar:
        while run.step < settings.steps:
            run.advance()
            run.seconds = time.monotonic() - started
            bar.update()
            if _is_due(run, settings.log_every):
                rows.append(_log_row(run, measure))
            if time.monotonic() - saved > checkpoint_seconds:
                _save(run, weights, measures, rows)
                saved = time.monotonic()
    _save(run, weights, measures, rows)


def _is_due(run: Training[Settings, Network], every: int) -> bool:
    return run.step % every == 0 or run.step == run.settings.steps


def _log_row(
    run: Training[Settings, Network],
    measure: Callable[[Network], Mapping[str, str]] | None,
) -> dict[str, object]:
    row: dict[str, object] = {"step": run.step, "seconds": f"{run.seconds:.1f}"}
    row.update(run.pop_mean_losses())
    if measure and _is_due(run, run.settings.validate_every):
        row.update(measure(run.averaged_network()))
    return row


def _save(
    run: Training[Settings, Network],
    weights: Path,
    measures: Sequence[str],
    rows: Sequence[Mapping[str, object]],
) -> None:
    # The log first: a resumed run drops the rows that are newer than its checkpoint.
    write_log(weights.parent / LOG, (*COLUMNS, *measures), rows)
    run.save(weights.parent / CHECKPOINT)
    run.write_weights(weights, step=str(run.step), settings=str(asdict(run.settings)))


# ---- checks of settings and archives -------------------------------------------------------


def check_synthetic_share(settings: Schedule) -> None:
    """Check that the share of synthetic batches is in [0, 1].

    Raises:
        TrainingError: It is not.
    """
    if not 0.0 <= settings.synthetic <= 1.0:
        raise TrainingError(f"--synthetic must be from 0 to 1, got {settings.synthetic}")


def training_archive(settings: Schedule, archive: str | Path | None) -> str | Path | None:
    """Return the archive to train on, or None if all batches are synthetic.

    Raises:
        TrainingError: Recorded tasks are needed but there is no archive, or the synthetic share
            is not in [0, 1].
    """
    check_synthetic_share(settings)
    if settings.synthetic == 1.0:
        return None
    if archive is None:
        raise TrainingError(
            "no archive to train on: give one with --archive, or use --synthetic 1 to train on "
            "synthetic tasks only"
        )
    return archive


def check_disjoint(trained: Iterable[str], validated: Iterable[str]) -> None:
    """Check that no task is used both for training and for validation.

    Args:
        trained: Names of the training tasks.
        validated: Names of the validation tasks.

    Raises:
        TrainingError: A task is used for both.
    """
    shared = sorted(set(trained) & set(validated))
    if shared:
        raise TrainingError(
            f"task {shared[0]} is in both the training and the validation archive; remove it "
            "from one of them"
        )
