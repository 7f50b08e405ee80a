"""Running the optimizer's meta-training in a folder, with checkpoints, a log and weights."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from metahpo.optim.weights import save_weights
from metahpo.train import TrainingError
from metahpo.train.files import read_log, usable_device, write_log
from metahpo.train.optimizer import checkpoint
from metahpo.train.optimizer.inner_data import DataError, Dataset, keel, mnist
from metahpo.train.optimizer.meta_training import MetaTraining
from metahpo.train.optimizer.optimizer_settings import Settings

CHECKPOINT, LOG = "checkpoint.safetensors", "log.csv"
BEST, LAST = "best.safetensors", "last.safetensors"
# In the order of the rule's kinds.
KIND_NAMES = ("matrix", "vector", "embedding")
COLUMNS: tuple[str, ...] = (
    "meta_step",
    "seconds",
    "phase",
    "objective",
    *(f"{kind}_size" for kind in KIND_NAMES),
    "validation",
)


def train_optimizer(
    folder: Path,
    settings: Settings,
    *,
    data: Path | None = None,
    device: str = "cpu",
    checkpoint_seconds: float = 180.0,
) -> Path:
    """Meta-train in a folder, continuing from a checkpoint if there is one.

    Args:
        folder: For checkpoint, log and weights; created if necessary.
        settings: Settings of the training; to continue, those of the checkpoint.
        data: Folder that contains MNIST; required if the settings include it.
        device: PyTorch device of the inner trainings.
        checkpoint_seconds: Time between two checkpoints, in seconds.

    Returns:
        The file with the best weights on the validation problems. The final weights, in which the
        falling rate has averaged out the noise, are next to it.

    Raises:
        TrainingError: The settings have no meta-steps, or the device cannot be used.
        DataError: The settings include MNIST or KEEL's data, which cannot be found.
        CheckpointError: The checkpoint cannot be read or has different settings.
    """
    if not settings.meta_steps:
        raise TrainingError(
            "no meta-steps to take: raise --mixture-steps, --rule-steps or --schedule-steps"
        )
    run = MetaTraining(settings, _extra_data(settings, data), usable_device(device))
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CHECKPOINT).exists():
        checkpoint.restore(run, folder / CHECKPOINT)
    rows = read_log(folder / LOG, "meta_step", run.state.meta_step)
    started, saved = time.monotonic() - run.state.seconds, time.monotonic()
    with tqdm(total=settings.meta_steps, initial=run.state.meta_step, disable=None) as bar:
        while run.state.meta_step < settings.meta_steps:
            rows.append(_advance(run, folder, started))
            bar.update()
            if time.monotonic() - saved > checkpoint_seconds:
                save_progress(run, folder, rows)
                saved = time.monotonic()
    save_progress(run, folder, rows)
    return folder / BEST


def _extra_data(settings: Settings, data: Path | None) -> list[Dataset]:
    if settings.mnist and data is None:
        raise DataError("these settings include MNIST: give its folder with --data")
    extra = [mnist(data)] if settings.mnist and data is not None else []
    return extra + (keel() if settings.keel else [])


def _advance(run: MetaTraining, folder: Path, started: float) -> dict[str, object]:
    """Take a meta-step, validate if it is due, and return the row of the log."""
    phase, objective, state = run.phase, run.advance(), run.state
    state.seconds = time.monotonic() - started
    settings, validation = run.settings, ""
    is_last = state.meta_step == settings.meta_steps
    if state.meta_step % settings.validate_every == 0 or is_last:
        score = run.validate()
        validation = f"{score:.5f}"
        if score < state.best:
            state.best = score
            _save_weights(run, folder / BEST, score)
        if is_last:
            _save_weights(run, folder / LAST, score)
    sizes = [f"{size:.5f}" for size in state.weights["step.log_size"].exp().tolist()]
    values = (state.meta_step, f"{state.seconds:.1f}", phase, f"{objective:.5f}",
              *sizes, validation)  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def _save_weights(run: MetaTraining, path: Path, score: float) -> None:
    save_weights(
        {name: tensor.cpu() for name, tensor in run.state.weights.items()},
        path,
        meta_step=str(run.state.meta_step),
        validation=f"{score:.5f}",
        settings=str(asdict(run.settings)),
    )


def save_progress(run: MetaTraining, folder: Path, rows: list[dict[str, object]]) -> None:
    """Write the log and a checkpoint."""
    # The log first: a resumed run drops the rows that are newer than its checkpoint.
    write_log(folder / LOG, COLUMNS, rows)
    checkpoint.save(run, folder / CHECKPOINT)
