"""Fine-tuning of pretrained weights on a user's own archive.

Some tasks of the archive are held out. The pretrained weights are tuned on the others, with a
small learning rate and some synthetic episodes against forgetting. Both the pretrained and the
tuned weights then predict the held-out tasks; the tuned weights are accepted only if they predict
better by a statistical test.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from metahpo.atomic_file import replaced_whole
from metahpo.surrogate.neural.neural_process import NeuralProcess
from metahpo.surrogate.neural.pretrained import WeightsError, default_weights, load_weights
from metahpo.tasks.space import Array
from metahpo.train import TrainingError
from metahpo.train.files import usable_device
from metahpo.train.loop import WEIGHTS, check_synthetic_share, train_to_end
from metahpo.train.surrogate.measure import (
    MIN_TRIALS,
    TRIALS,
    held_out,
    prior_log_density,
    task_log_densities,
)
from metahpo.train.surrogate.surrogate_training import MEASURES, Settings, SurrogateTraining
from metahpo.train.surrogate.task_families import Family, Record, read_families

PRETRAINED, TUNED, OUTCOME = "pretrained.safetensors", "tuned.safetensors", "outcome.json"
DEFAULT_SETTINGS = Settings(
    steps=600, synthetic=0.25, rate=5e-4, warmup=50, cooldown=0.5, averaged=100, log_every=50
)
# Fine-tuning needs so many tasks with at least ``MIN_TRIALS`` trials.
MIN_TASKS = 6
# Share of these tasks that is held out, and bounds of their number.
HELD_OUT_SHARE, MIN_HELD_OUT, MAX_HELD_OUT = 0.3, 3, 30
# Probability of accepting tuned weights that are no better.
SIGNIFICANCE_LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of a fine-tuning.

    Attributes:
        tasks: Names of the held-out tasks.
        before: ``tasks x len(TRIALS)``, mean log densities under the pretrained weights.
        after: The same under the tuned weights.
        prior: Mean log density of synthetic tasks' scores, before and after; a drop measures
            forgetting.
        weights: The file with the better weights.
    """

    tasks: tuple[str, ...]
    before: Array
    after: Array
    prior: tuple[float, float]
    weights: Path

    @property
    def differences(self) -> Array:
        """Gain of each task, mean over the numbers of trials: ``tasks``."""
        return (self.after - self.before).mean(axis=1)

    @property
    def gain(self) -> float:
        """Mean gain over the tasks."""
        return float(self.differences.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the gain."""
        return float(self.differences.std(ddof=1)) / math.sqrt(len(self.tasks))

    @property
    def accepted(self) -> bool:
        """Whether the tuned weights are better by a one-sided paired t-test."""
        quantile = student.ppf(1.0 - SIGNIFICANCE_LEVEL, len(self.tasks) - 1)
        return self.gain > float(quantile * self.standard_error)

    def __str__(self) -> str:
        """A summary in a few sentences."""
        verdict = (
            "The tuned weights predict better and are used"
            if self.accepted
            else "The tuned weights do not predict significantly better; the pretrained weights "
            "are kept"
        )
        return (
            f"{verdict}. Mean log density over {len(self.tasks)} held-out tasks: "
            f"{self.before.mean():.3f} before, {self.after.mean():.3f} after, "
            f"{self.gain:+.3f} (standard error {self.standard_error:.3f}); "
            f"over synthetic tasks {self.prior[0]:.3f} before, {self.prior[1]:.3f} after. "
            f"Written to {self.weights}."
        )


def tune_surrogate(
    folder: Path,
    settings: Settings,
    archive: str | Path,
    pretrained: str | Path | None = None,
    *,
    device: str = "cpu",
    checkpoint_seconds: float = 20.0,
) -> Outcome:
    """Fine-tune in a folder, continuing from a checkpoint if there is one.

    The folder then holds ``pretrained.safetensors``, ``tuned.safetensors``, the better of them as
    ``weights.safetensors``, and each held-out task's densities in ``outcome.json``.

    Args:
        folder: Created if necessary.
        settings: ``DEFAULT_SETTINGS``, possibly with changes.
        archive: The user's recorded tasks.
        pretrained: The weights to start from; those of the package by default.
        device: PyTorch device of the network.
        checkpoint_seconds: Time between two checkpoints, in seconds.

    Raises:
        TrainingError: There are too few tasks or no pretrained weights, the device cannot be
            used, or the folder's checkpoint has different settings, weights or tasks.
        ArchiveError: There is no such archive.
        OSError: The pretrained weights cannot be read.
    """
    check_synthetic_share(settings)
    path, network = read_pretrained(pretrained)
    without = [name for name in settings.without.split(",") if name]
    families, others = split_tasks(read_families(archive, without), settings.seed, str(archive))
    run = SurrogateTraining(settings, families, usable_device(device), start=network)
    train_to_end(run, folder / TUNED, MEASURES, checkpoint_seconds=checkpoint_seconds)
    studies = list(held_out(families, others))
    before, after = network.to(run.device), run.averaged_network()
    outcome = Outcome(
        tasks=tuple(task.name for family in others for task in family.tasks),
        before=task_log_densities(before, studies),
        after=task_log_densities(after, studies),
        prior=(
            prior_log_density(before, settings.seed),
            prior_log_density(after, settings.seed),
        ),
        weights=folder / WEIGHTS,
    )
    _copy(path, folder / PRETRAINED)
    _copy(folder / (TUNED if outcome.accepted else PRETRAINED), outcome.weights)
    (folder / OUTCOME).write_text(json.dumps(_record(outcome, settings), indent=1))
    return outcome


def split_tasks(
    families: Sequence[Family], seed: int, name: str = "the archive"
) -> tuple[list[Family], list[Family]]:
    """Split the tasks of an archive.

    Args:
        families: The families of the archive.
        seed: Determines which tasks are held out.
        name: The archive's name, for the error message.

    Returns:
        The tasks to tune on, and the held-out ones.

    Raises:
        TrainingError: Too few tasks have enough trials to be held out.
    """
    tasks = [task for family in families for task in family.tasks]
    eligible = sorted((t for t in tasks if len(t.values) >= MIN_TRIALS), key=lambda t: t.name)
    if len(eligible) < MIN_TASKS:
        raise TrainingError(
            f"fine-tuning needs at least {MIN_TASKS} tasks of {MIN_TRIALS} trials or more, some "
            f"of which it holds out, but {name} has {len(eligible)}: collect more studies with "
            "`metahpo collect`"
        )
    count = int(np.clip(round(HELD_OUT_SHARE * len(eligible)), MIN_HELD_OUT, MAX_HELD_OUT))
    rows = np.random.default_rng(seed).permutation(len(eligible))[:count]
    chosen = {eligible[i] for i in rows}
    return _filtered(families, chosen, False), _filtered(families, chosen, True)


def _filtered(families: Sequence[Family], tasks: set[Record], keep: bool) -> list[Family]:
    """Keep only the given tasks, or drop them; families without tasks are dropped."""

    def kept(family: Family) -> tuple[Record, ...]:
        return tuple(task for task in family.tasks if (task in tasks) == keep)

    return [replace(family, tasks=kept(family)) for family in families if kept(family)]


def read_pretrained(path: str | Path | None) -> tuple[Path, NeuralProcess]:
    """Read the weights to start from.

    Args:
        path: A file of weights; None for those of the package.

    Returns:
        The file, and the network.

    Raises:
        TrainingError: The package has no weights, or the file does not contain any.
        OSError: The file cannot be read.
    """
    try:
        file = default_weights() if path is None else Path(path)
        return file, load_weights(file)
    except WeightsError as error:
        raise TrainingError(str(error)) from None


def _copy(source: Path, target: Path) -> None:
    """Copy a file atomically, unless both are the same file."""
    if target.exists() and source.samefile(target):
        return
    with replaced_whole(target) as temporary:
        shutil.copyfile(source, temporary)


def _record(outcome: Outcome, settings: Settings) -> dict[str, object]:
    return {
        "weights": "tuned" if outcome.accepted else "pretrained",
        "gain": outcome.gain,
        "standard_error": outcome.standard_error,
        "prior": {"before": outcome.prior[0], "after": outcome.prior[1]},
        "trials": TRIALS,
        "before": dict(zip(outcome.tasks, outcome.before.tolist(), strict=True)),
        "after": dict(zip(outcome.tasks, outcome.after.tolist(), strict=True)),
        "settings": asdict(settings),
    }
