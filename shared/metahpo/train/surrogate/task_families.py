"""Families of recorded tasks: the tasks of an archive, grouped by search space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metahpo.archive import Archive
from metahpo.surrogate.networks.space_description import Description, describe
from metahpo.tasks.space import Array, Space
from metahpo.tasks.task import Task
from metahpo.train import TrainingError

# Tasks with fewer trials are too short to learn from.
MIN_RECORDED_TRIALS = 20


class RecordError(TrainingError):
    """An archive cannot be trained on; the message says why."""


@dataclass(frozen=True, eq=False)
class Record:
    """The observed trials of one task.

    Attributes:
        name: The task's name.
        points: ``n x d``.
        values: ``n``.
    """

    name: str
    points: Array
    values: Array


@dataclass(frozen=True, eq=False)
class Family:
    """Tasks that share a search space.

    Attributes:
        space: The search space.
        description: The space as the network receives it.
        tasks: At least one.
    """

    space: Space
    description: Description
    tasks: tuple[Record, ...]


def read_families(path: str | Path, without: Sequence[str] = ()) -> list[Family]:
    """Read the families of an archive.

    Args:
        path: The archive.
        without: Tasks whose names start with one of these are left out.

    Raises:
        RecordError: No task has enough trials.
        ArchiveError: There is no archive.
    """
    members: dict[object, list[Task]] = {}
    for task in Archive(path):
        if task.name.startswith(tuple(without)) or len(task.observed) < MIN_RECORDED_TRIALS:
            continue
        conditions = sorted((name, repr(c)) for name, c in task.space.conditions.items())
        key = (tuple(sorted(task.space.to_json().items())), tuple(conditions))
        members.setdefault(key, []).append(task)
    if not members:
        raise RecordError(
            f"no task in {path} has {MIN_RECORDED_TRIALS} trials with a value; collect longer "
            "studies, or leave fewer tasks out"
        )
    return [_family(tasks) for tasks in members.values()]


def _family(tasks: Sequence[Task]) -> Family:
    space = tasks[0].space
    return Family(space, describe(space), tuple(_record(task, space) for task in tasks))


def _record(task: Task, space: Space) -> Record:
    points = space.encode([trial.configuration for trial in task.observed])
    return Record(task.name, points, task.values)


def family_odds(families: Sequence[Family]) -> Array:
    """Return the probabilities of the families: proportional to the root of their sizes."""
    sizes = np.sqrt([len(family.tasks) for family in families])
    return sizes / sizes.sum()
