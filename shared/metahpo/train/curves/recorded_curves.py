"""Studies of learning curves drawn from the trials of an archive's tasks.

Notation: see ``curve_batches.py``; s reports in the longest curve of a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from metahpo.archive import Archive
from metahpo.surrogate.curves.curve_values import Curves, sorted_reports
from metahpo.surrogate.networks.space_description import Description, describe, stack
from metahpo.tasks.space import Array, Space
from metahpo.tasks.task import Task
from metahpo.train.curves.curve_batches import TARGETS, CurveBatch, with_queries
from metahpo.train.surrogate.task_families import RecordError
from metahpo.train.surrogate.variations import anonymous

# Shorter curves, and tasks with fewer curves, are not used.
MIN_REPORTS, MIN_CURVES = 4, 12


@dataclass(frozen=True, eq=False)
class CurveRecord:
    """The curves of one task; progress is relative to the end of the longest one.

    Attributes:
        name: The task's name.
        space: The search space.
        description: The space as the network receives it.
        points: ``n x d``.
        progress: ``n x s``, NaN for padding.
        values: ``n x s``, NaN for padding.
    """

    name: str
    space: Space
    description: Description
    points: Array
    progress: Tensor
    values: Tensor


def read_curves(path: str | Path) -> list[CurveRecord]:
    """Read the tasks of an archive that have learning curves.

    Raises:
        RecordError: No task has enough of them.
        ArchiveError: There is no archive.
    """
    records = [record for task in Archive(path) if (record := _record(task)) is not None]
    if not records:
        raise RecordError(
            f"no task in {path} has {MIN_CURVES} trials with at least {MIN_REPORTS} reports each; "
            "collect studies whose trials report intermediate values"
        )
    return records


def _record(task: Task) -> CurveRecord | None:
    trials = [trial for trial in task.trials if len(trial.curve) >= MIN_REPORTS]
    horizon = max((step for trial in trials for step, _ in trial.curve), default=0.0)
    if len(trials) < MIN_CURVES or not horizon > 0.0:
        return None
    filled = np.full((len(trials), max(len(trial.curve) for trial in trials), 2), np.nan)
    for row, trial in enumerate(trials):
        filled[row, : len(trial.curve)] = trial.curve
    progress, values = sorted_reports(
        torch.from_numpy(filled[..., 0] / horizon), torch.from_numpy(filled[..., 1])
    )
    points = task.space.encode([trial.configuration for trial in trials])
    return CurveRecord(task.name, task.space, describe(task.space), points, progress, values)


def recorded_curves(
    records: Sequence[CurveRecord],
    studies: int,
    context: int,
    rng: np.random.Generator,
    *,
    augment: bool = True,
) -> CurveBatch:
    """Draw a batch of studies, each with curves of one task.

    Args:
        records: Tasks to draw from, with equal probabilities.
        studies: B.
        context: k; reduced if the smallest task has too few curves.
        rng: Source of randomness.
        augment: Whether to remove names and reports and add noise, in some studies.
    """
    fewest = min(len(record.points) for record in records)
    context = min(context, fewest - TARGETS)
    chosen = [records[i] for i in rng.integers(len(records), size=studies)]
    rows = [rng.permutation(len(record.points))[: context + TARGETS] for record in chosen]
    curves = _stacked(chosen, rows)
    descriptions = [record.description for record in chosen]
    if augment:
        is_anonymous = rng.random(studies) < 0.2
        descriptions = [
            anonymous(description, rng) if hidden else description
            for description, hidden in zip(descriptions, is_anonymous, strict=True)
        ]
        curves = _augmented(curves, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    return with_queries(stack(descriptions), curves, context, generator)


def _stacked(records: Sequence[CurveRecord], rows: Sequence[np.ndarray]) -> Curves:
    """Stack the chosen curves of each record: ``B x m``."""
    pairs = list(zip(records, rows, strict=True))
    width = max(record.points.shape[1] for record in records)
    length = max(record.progress.shape[1] for record in records)
    points = [_padded(torch.from_numpy(record.points[r]).float(), width) for record, r in pairs]
    return Curves(
        torch.stack(points),
        torch.stack([_padded(record.progress[r], length) for record, r in pairs]),
        torch.stack([_padded(record.values[r], length) for record, r in pairs]),
    )


def _augmented(curves: Curves, rng: np.random.Generator) -> Curves:
    """Add gaps to some curves and noise to some studies."""
    shape = curves.progress.shape
    gaps = rng.random(shape) < 0.4 * (rng.random(shape[:2]) < 0.15)[..., None]
    gaps[..., [0, -1]] = False
    unit = np.nanstd(curves.values.numpy(), axis=(1, 2), keepdims=True)
    noise = 10 ** rng.uniform(-3, -0.7, (len(unit), 1, 1)) * (rng.random((len(unit), 1, 1)) < 0.15)
    values = curves.values + torch.from_numpy(unit * noise * rng.standard_normal(shape))
    progress = curves.progress.masked_fill(torch.from_numpy(gaps), torch.nan)
    return Curves(curves.points, *sorted_reports(progress, values))


def _padded(tensor: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[-1]), value=torch.nan)
