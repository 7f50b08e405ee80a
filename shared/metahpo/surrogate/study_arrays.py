"""The study in progress, in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from metahpo.tasks.alignment import OUTSIDE
from metahpo.tasks.space import Array, Space
from metahpo.tasks.task import Task, Trial, TrialState, bounded


@dataclass(frozen=True, eq=False)
class Study:
    """The task so far in arrays.

    Attributes:
        space: With conditions.
        points: n x d observed trials.
        values: n; a failed trial counts as the worst one seen.
        running: m x d.
        taken: k x d, all finished and running trials.
        failed: Whether trials have finished, all of them without a value.
    """

    space: Space
    points: Array
    values: Array
    running: Array
    taken: Array
    failed: bool = False

    @cached_property
    def tried(self) -> frozenset[bytes]:
        """Keys of the configurations that must not be repeated."""
        return frozenset(map(key_of, self.taken))

    @property
    def best(self) -> Array:
        """The trials in ``points`` that lie in the space, the best first."""
        ordered = self.points[np.argsort(-self.values, kind="stable")]
        return ordered[~_outside(ordered).any(axis=1)]


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
        values=bounded(values),
        running=_points(space, task.running),
        taken=taken,
        failed=bool(finished) and not seen,
    )


def _points(space: Space, trials: Sequence[Trial]) -> Array:
    """N x d; what was tried beyond the present bounds stays there, as in past tasks."""
    points = space.encode([trial.configuration for trial in trials])
    beyond = np.clip(points, -OUTSIDE, 1.0 + OUTSIDE)
    return np.where(_outside(points), beyond, space.snap(points))


def _outside(points: Array) -> NDArray[np.bool_]:
    return np.abs(points - 0.5) > 0.5 + 1e-9


def key_of(point: Array) -> bytes:
    """What two points that are the same configuration have in common."""
    return np.nan_to_num(point, nan=-1.0).round(9).tobytes()
