"""Fine-tuning of pretrained weights on an archive of one's own.

Some tasks of the archive are held out. The pretrained weights are tuned on the others, at a small
learning rate and with episodes of the prior in between, so that what they know is not forgotten.
Both then predict the held-out tasks; the tuned weights are taken only if they do so better than
chance explains.
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

from metahpo.surrogate.neural.neural_process import NeuralProcess
from metahpo.surrogate.neural.pretrained import WeightsError, default_weights, load_weights
from metahpo.tasks.space import Array
from metahpo.train import TrainingError
from metahpo.train.files import usable_device
from metahpo.train.loop import WEIGHTS, advance_to_end, check_shares
from metahpo.train.surrogate.measure import (
    LEAST_TRIALS,
    TRIALS,
    held_out,
    log_densities,
    prior_density,
)
from metahpo.train.surrogate.recorded import Family, Record, read_families
from metahpo.train.surrogate.surrogate_training import MEASURES, Settings, SurrogateTraining

PRETRAINED, TUNED, OUTCOME = "pretrained.safetensors", "tuned.safetensors", "outcome.json"
USUAL = Settings(
    steps=600, synthetic=0.25, rate=5e-4, warmup=50, cooldown=0.5, averaged=100, log_every=50
)
# Tasks of an archive that can be asked about, the share of them that is held out, and how many
# that are.
LEAST_TASKS, HELD_OUT, FEWEST, MOST = 6, 0.3, 3, 30
# How often tuned weights that are no better may be taken.
FALSE_TAKES = 0.05


@dataclass(frozen=True, eq=False)
class Outcome:
    """What fine-tuning has brought.

    Attributes:
        tasks: Names of the held-out ones.
        before: ``tasks x len(TRIALS)``, mean log densities by the pretrained weights.
        after: By the tuned ones.
        prior: Mean log density of made-up tasks' scores before and after: what was forgotten.
        weights: The file of those that were taken.
    """

    tasks: tuple[str, ...]
    before: Array
    after: Array
    prior: tuple[float, float]
    weights: Path

    @property
    def differences(self) -> Array:
        """Of each task, the mean over the numbers of trials."""
        return (self.after - self.before).mean(axis=1)

    @property
    def gain(self) -> float:
        """The mean difference over the tasks."""
        return float(self.differences.mean())

    @property
    def standard_error(self) -> float:
        """Of the gain."""
        return float(self.differences.std(ddof=1)) / math.sqrt(len(self.tasks))

    @property
    def taken(self) -> bool:
        """Whether the tuned weights are better by a one-sided paired t-test."""
        bound = student.ppf(1.0 - FALSE_TAKES, len(self.tasks) - 1) * self.standard_error
        return self.gain > float(bound)

    def __str__(self) -> str:
        """In a sentence or two."""
        verdict = (
            "The tuned weights predict better and are taken"
            if self.taken
            else "The tuned weights do not predict clearly better: the pretrained ones stay"
        )
        return (
            f"{verdict}. Log density a value, mean over {len(self.tasks)} held-out tasks: "
            f"{self.before.mean():.3f} before, {self.after.mean():.3f} after, "
            f"{self.gain:+.3f} (standard error {self.standard_error:.3f}); "
            f"of made-up tasks {self.prior[0]:.3f} before, {self.prior[1]:.3f} after. "
            f"In {self.weights}."
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
    """Fine-tunes in a folder, going on where a checkpoint there left off.

    The folder then holds ``pretrained.safetensors``, ``tuned.safetensors``, the better of them as
    ``weights.safetensors``, and each held-out task's densities in ``outcome.json``.

    Args:
        folder: Made where there is none.
        settings: Of the fine-tuning; ``USUAL`` with changes.
        archive: The user's recorded tasks.
        pretrained: The file of weights to begin with; those of the package if not given.
        device: Where the network is.
        checkpoint_seconds: Between two checkpoints.

    Raises:
        TrainingError: Too few tasks; no pretrained weights; the device cannot be used; the
            folder's checkpoint is of other settings, weights or tasks.
        ArchiveError: There is no such archive.
        OSError: The pretrained weights cannot be read.
    """
    check_shares(settings)
    path, network = read_pretrained(pretrained)
    without = [name for name in settings.without.split(",") if name]
    families, others = parted(read_families(archive, without), settings.seed, str(archive))
    run = SurrogateTraining(settings, families, usable_device(device), start=network)
    advance_to_end(run, folder / TUNED, MEASURES, checkpoint_seconds=checkpoint_seconds)
    studies = list(held_out(families, others))
    before, after = network.to(run.device), run.averaged_network()
    outcome = Outcome(
        tasks=tuple(task.name for family in others for task in family.tasks),
        before=log_densities(before, studies),
        after=log_densities(after, studies),
        prior=(prior_density(before, settings.seed), prior_density(after, settings.seed)),
        weights=folder / WEIGHTS,
    )
    _copied(path, folder / PRETRAINED)
    _copied(folder / (TUNED if outcome.taken else PRETRAINED), outcome.weights)
    (folder / OUTCOME).write_text(json.dumps(_told(outcome, settings), indent=1))
    return outcome


def parted(
    families: Sequence[Family], seed: int, name: str = "the archive"
) -> tuple[list[Family], list[Family]]:
    """Tasks to tune on, and held-out ones.

    Args:
        families: Of the archive.
        seed: Of the choice.
        name: Of the archive, for a message.

    Raises:
        TrainingError: Too few tasks have enough trials to be held out.
    """
    tasks = [task for family in families for task in family.tasks]
    long = sorted((t for t in tasks if len(t.values) >= LEAST_TRIALS), key=lambda t: t.name)
    if len(long) < LEAST_TASKS:
        raise TrainingError(
            f"fine-tuning needs {LEAST_TASKS} tasks of {LEAST_TRIALS} trials or more to hold some "
            f"out, and {name} has {len(long)}: collect more studies with `metahpo collect`"
        )
    count = int(np.clip(round(HELD_OUT * len(long)), FEWEST, MOST))
    out = {long[i] for i in np.random.default_rng(seed).permutation(len(long))[:count]}
    return _those(families, out, False), _those(families, out, True)


def _those(families: Sequence[Family], tasks: set[Record], inside: bool) -> list[Family]:
    """The families with these tasks alone, or with the others alone."""

    def kept(family: Family) -> tuple[Record, ...]:
        return tuple(task for task in family.tasks if (task in tasks) == inside)

    return [replace(family, tasks=kept(family)) for family in families if kept(family)]


def read_pretrained(path: str | Path | None) -> tuple[Path, NeuralProcess]:
    """The file of weights to begin with, those of the package if not given, and the network.

    Raises:
        TrainingError: There are none, or it is no such file.
        OSError: It cannot be read.
    """
    try:
        found = default_weights() if path is None else Path(path)
        return found, load_weights(found)
    except WeightsError as error:
        raise TrainingError(str(error)) from None


def _copied(source: Path, target: Path) -> None:
    """A copy, whole or not at all; nothing to do where both are one file."""
    if target.exists() and source.samefile(target):
        return
    temporary = target.with_suffix(".tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def _told(outcome: Outcome, settings: Settings) -> dict[str, object]:
    return {
        "taken": "tuned" if outcome.taken else "pretrained",
        "gain": outcome.gain,
        "standard_error": outcome.standard_error,
        "prior": {"before": outcome.prior[0], "after": outcome.prior[1]},
        "trials": TRIALS,
        "before": dict(zip(outcome.tasks, outcome.before.tolist(), strict=True)),
        "after": dict(zip(outcome.tasks, outcome.after.tolist(), strict=True)),
        "settings": asdict(settings),
    }
