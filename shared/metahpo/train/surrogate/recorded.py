"""Episodes from recorded tasks: real ones, in an archive.

Tasks of one space are a family. An episode's present task and its past ones are tasks of one
family; their trials are drawn from what was recorded, some as if at random and some as if
somebody had optimised. So that a few hundred tasks teach more than themselves, episodes are
varied (``variations.py``), and some past tasks are replaced by those of another family or by
their opposite.

Notation: see ``episodes.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metahpo.archive import Archive
from metahpo.surrogate.networks.space_description import Description, describe, stack
from metahpo.surrogate.standardise import own_scale
from metahpo.tasks.space import Array, Space
from metahpo.tasks.task import Task
from metahpo.train import TrainingError
from metahpo.train.surrogate.episodes import Episodes, Shape
from metahpo.train.surrogate.variations import (
    Draft,
    inside,
    moved,
    narrow_facts,
    narrowed,
    vary_space,
    vary_values,
)

# A task of fewer trials teaches nothing about prediction.
LEAST_TRIALS = 20
# Candidates among which trials are chosen, for each of them.
POOL = 3


class RecordError(TrainingError):
    """An archive that cannot be trained on; the message says why."""


@dataclass(frozen=True, eq=False)
class Record:
    """The observed trials of one task: points ``n x d`` and values ``n``."""

    name: str
    points: Array
    values: Array


@dataclass(frozen=True, eq=False)
class Family:
    """Tasks of one space.

    Attributes:
        space: Theirs.
        description: Of it.
        tasks: At least one.
    """

    space: Space
    description: Description
    tasks: tuple[Record, ...]


def read_families(path: str | Path, without: Sequence[str] = ()) -> list[Family]:
    """The families of an archive.

    Args:
        path: The archive.
        without: Tasks whose names begin so are left out.

    Raises:
        RecordError: No task there has enough trials.
        ArchiveError: There is no archive.
    """
    members: dict[object, list[Task]] = {}
    for task in Archive(path):
        if task.name.startswith(tuple(without)) or len(task.observed) < LEAST_TRIALS:
            continue
        conditions = sorted((name, repr(c)) for name, c in task.space.conditions.items())
        key = (tuple(sorted(task.space.to_json().items())), tuple(conditions))
        members.setdefault(key, []).append(task)
    if not members:
        raise RecordError(f"no task in {path} has {LEAST_TRIALS} trials with a value")
    return [_family(tasks) for tasks in members.values()]


def _family(tasks: Sequence[Task]) -> Family:
    space = tasks[0].space
    return Family(space, describe(space), tuple(_record(task, space) for task in tasks))


def _record(task: Task, space: Space) -> Record:
    trials = task.observed
    points = space.encode([trial.configuration for trial in trials])
    return Record(task.name, points, task.values)


# ---- episodes ------------------------------------------------------------------------------


def recorded_episodes(
    families: Sequence[Family],
    shape: Shape,
    rng: np.random.Generator,
    only: int | None = None,
) -> Episodes:
    """A batch of varied episodes.

    Args:
        families: Present tasks are of one as often as ``family_odds`` says.
        shape: Sizes; the hyperparameters are as many as the families have. Trials and queries
            are fewer where the shortest task has not so many.
        rng: Of everything.
        only: The family of which all present tasks are, by its place.
    """
    shape = _fitting(families, shape)
    if only is None:
        chosen = rng.choice(len(families), shape.episodes, p=family_odds(families))
    else:
        chosen = np.full(shape.episodes, only)
    drafts = [_varied_draft(families, index, shape, rng) for index in chosen]
    return _together(drafts, shape.trials)


def family_odds(families: Sequence[Family]) -> Array:
    """How often each family is drawn: as the square root of its number of tasks says."""
    sizes = np.sqrt([len(family.tasks) for family in families])
    return sizes / sizes.sum()


def _fitting(families: Sequence[Family], shape: Shape) -> Shape:
    shortest = min(len(task.values) for family in families for task in family.tasks)
    trials = min(shape.trials, shortest // 2)
    return replace(shape, trials=trials, queries=min(shape.queries, shortest - trials))


def _varied_draft(
    families: Sequence[Family], index: int, shape: Shape, rng: np.random.Generator
) -> Draft:
    family = families[index]
    order = rng.permutation(len(family.tasks))
    target, others = family.tasks[order[0]], [family.tasks[i] for i in order[1:]]
    box = narrowed(family.space, target.points, POOL * (shape.trials + shape.queries), rng)
    within = slice(None) if box is None else inside(target.points, box)
    points, values = moved(target.points[within], box), target.values[within]
    rows = _present_rows(values, shape, rng)
    past = [_past_trials(record, shape.past_trials, rng) for record in others[: shape.past_tasks]]
    while len(past) < shape.past_tasks:
        past.append(_unrelated(families, len(family.space), shape.past_trials, rng))
    past = _misled(past, families, len(family.space), shape.past_trials, rng)
    width = len(family.space)
    draft = Draft(
        family.description,
        points[rows],
        values[rows],
        values,
        np.stack([moved(p, box) for p, _ in past]) if past else np.empty((0, 1, width)),
        np.stack([v for _, v in past]) if past else np.empty((0, 1)),
        np.ones((len(past), width), bool),
    )
    draft.description = narrow_facts(family.description, box)
    vary_values(draft, rng)
    vary_space(draft, rng)
    return draft


def _present_rows(values: Array, shape: Shape, rng: np.random.Generator) -> NDArray[np.int_]:
    """Trials, then queries: half of those among good values."""
    greed = max(0.0, rng.uniform(-2.0, 3.0))
    # Early trials are the less optimised ones, in most studies.
    pool = rng.permutation(len(values) // 2 if rng.random() < 0.5 else len(values))
    trials = _chosen(values, pool[: POOL * shape.trials], shape.trials, greed, rng)
    left = np.setdiff1d(np.arange(len(values)), trials)
    left = left[rng.permutation(len(left))[: POOL * shape.queries]]
    good = _chosen(values, left, shape.queries // 2, 2.0, rng)
    left = np.setdiff1d(left, good)
    rest = rng.choice(left, shape.queries - len(good), replace=False)
    return np.concatenate([trials, good, rest])


def _chosen(
    values: Array, rows: NDArray[np.int_], count: int, greed: float, rng: np.random.Generator
) -> NDArray[np.int_]:
    """So many of the rows, those of better ranks more often."""
    if count >= len(rows):
        return rows[:count]
    ranks = np.argsort(np.argsort(values[rows])) / max(len(rows) - 1, 1)
    keys = greed * 3.5 * (ranks - 0.5) + rng.gumbel(size=len(rows))
    return rows[np.argpartition(-keys, count - 1)[:count]]


def _past_trials(record: Record, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    greed = max(0.0, rng.uniform(-2.0, 3.0))
    early = rng.random() < 0.5 and len(record.values) >= 2 * count
    pool = rng.permutation(len(record.values) // 2 if early else len(record.values))
    rows = _chosen(record.values, pool[: POOL * count], count, greed, rng)
    if len(rows) < count:
        rows = np.concatenate([rows, rng.choice(rows, count - len(rows))])
    return record.points[rows], record.values[rows]


# ---- what the past may be ------------------------------------------------------------------


def _misled(
    past: list[tuple[Array, Array]],
    families: Sequence[Family],
    width: int,
    count: int,
    rng: np.random.Generator,
) -> list[tuple[Array, Array]]:
    """With some past tasks unrelated, opposite, or measured in another unit."""
    unrelated = max(0.0, rng.uniform(-0.5, 0.5)) if rng.random() > 0.05 else 1.0
    opposite = 1.0 if rng.random() < 0.05 else 0.02
    foreign = 2.0 if rng.random() < 0.05 else 0.0
    result = []
    for trials in past:
        points, values = trials
        if rng.random() < unrelated:
            points, values = _unrelated(families, width, count, rng)
        if rng.random() < opposite:
            values = -values
        result.append((points, values * np.exp(foreign * rng.standard_normal())))
    return result


def _unrelated(
    families: Sequence[Family], width: int, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Trials of a task of any family, its columns in any order under the present names."""
    family = families[int(rng.integers(len(families)))]
    points, values = _past_trials(family.tasks[int(rng.integers(len(family.tasks)))], count, rng)
    columns = rng.permutation(np.arange(max(width, points.shape[1])) % points.shape[1])[:width]
    return points[:, columns], values


# ---- batches -------------------------------------------------------------------------------


def _together(drafts: Sequence[Draft], trials: int) -> Episodes:
    width = max(draft.points.shape[-1] for draft in drafts)
    everything = [own_scale(torch.from_numpy(draft.everything)) for draft in drafts]
    known = torch.stack([_widened(torch.from_numpy(d.known), width, True) for d in drafts])
    return Episodes(
        description=stack([draft.description for draft in drafts]),
        points=_stacked([draft.points for draft in drafts], width),
        values=torch.from_numpy(np.stack([draft.values for draft in drafts])),
        trials=trials,
        population=type(everything[0])(*map(torch.stack, zip(*everything, strict=True))),
        past_points=_stacked([draft.past_points for draft in drafts], width),
        past_values=torch.from_numpy(np.stack([draft.past_values for draft in drafts])),
        known=known,
        relevance=torch.zeros(known.shape[:2]),
    )


def _stacked(arrays: Sequence[Array], width: int) -> Tensor:
    return torch.stack([_widened(torch.from_numpy(a).float(), width, torch.nan) for a in arrays])


def _widened(tensor: Tensor, width: int, value: float | bool) -> Tensor:
    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[-1]), value=value)
