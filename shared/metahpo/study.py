"""The study in progress, in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from metahpo.space import Array, Space
from metahpo.task import Task, Trial, TrialState


@dataclass(frozen=True, eq=False)
class Study:
    """The task so far in arrays.

    Attributes:
        space: With conditions.
        points: n x d observed trials.
        values: n; a failed trial counts as the worst one seen.
        running: m x d.
        taken: k x d, all finished and running trials.
    """

    space: Space
    points: Array
    values: Array
    running: Array
    taken: Array

    @cached_property
    def tried(self) -> frozenset[bytes]:
        """Keys of the configurations that must not be repeated."""
        return frozenset(map(key_of, self.taken))

    @property
    def best(self) -> Array:
        """The trials in ``points``, the best first."""
        return self.points[np.argsort(-self.values, kind="stable")]


def study_arrays(task: Task, space: Space) -> Study:
    """The trials of a task as arrays.

    Args:
        task: The task so far.
        space: Its space with conditions.
    """
    finished = [trial for trial in task.trials if trial.state is not TrialState.RUNNING]
    seen = [float(t.value) for t in finished if t.observed and t.value is not None]
    taken = _points(space, [*finished, *task.running])
    told = finished if seen else []
    # What failed is as bad as the worst that did not: the model learns to stay away.
    values = [float(t.value) if t.observed and t.value is not None else min(seen) for t in told]
    return Study(
        space,
        points=_points(space, told),
        values=np.asarray(values, dtype=float),
        running=_points(space, task.running),
        taken=taken,
    )


def _points(space: Space, trials: Sequence[Trial]) -> Array:
    return space.snap(space.encode([trial.configuration for trial in trials]))


def key_of(point: Array) -> bytes:
    """What two points that are the same configuration have in common."""
    return np.nan_to_num(point, nan=-1.0).round(9).tobytes()
