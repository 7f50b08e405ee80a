"""The study in progress, in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metahpo.space import Array, Space
from metahpo.task import Task, Trial


@dataclass(frozen=True, eq=False)
class Study:
    """The task so far in arrays.

    Attributes:
        space: With conditions.
        points: n x d observed trials.
        values: n; a failed trial counts as the worst one seen.
        running: m x d.
        tried: Every configuration that must not be repeated.
    """

    space: Space
    points: Array
    values: Array
    running: Array
    tried: frozenset[bytes]

    @property
    def best(self) -> Array:
        """N x d, the best trials first."""
        return self.points[np.argsort(-self.values, kind="stable")]


def study_arrays(task: Task, space: Space) -> Study:
    """The trials of a task as arrays.

    Args:
        task: The task so far.
        space: Its space with conditions.
    """
    observed, failed = task.observed, task.failed
    values = [float(trial.value) for trial in observed if trial.value is not None]
    if values:
        # What failed is as bad as the worst that did not: the model learns to stay away.
        observed, values = [*observed, *failed], values + [min(values)] * len(failed)
    points = _points(space, observed)
    running = _points(space, task.running)
    tried = np.concatenate([points, running, _points(space, failed)])
    return Study(
        space, points, np.asarray(values, dtype=float), running, frozenset(map(key_of, tried))
    )


def _points(space: Space, trials: Sequence[Trial]) -> Array:
    return space.snap(space.encode([trial.configuration for trial in trials]))


def key_of(point: Array) -> bytes:
    """What two points that are the same configuration have in common."""
    return np.nan_to_num(point, nan=-1.0).round(9).tobytes()
