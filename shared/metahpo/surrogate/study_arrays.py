"""The study in progress, as arrays: what surrogates are fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import numpy as np

from metahpo.tasks.alignment import OUTSIDE
from metahpo.tasks.space import Array, Configuration, Space
from metahpo.tasks.task import Task, Trial, TrialState
from metahpo.tasks.tried import Tried
from metahpo.tasks.units import in_safe_unit


@dataclass(frozen=True, eq=False)
class StudyArrays:
    """The task so far.

    Attributes:
        space: The space, with conditions.
        points: ``n x d``, all finished trials, failed ones too; none while all have failed.
        values: ``n``, effective (``Task.values``), in a unit that is safe for arithmetic; a failed
            trial counts as the worst one seen.
        pending: ``m x d``, running trials.
        taken: ``k x d``, all finished and running trials.
        completed: ``c x d``, those that requested all that they would; NaN is what they did not
            request, and nothing that has no place in the space.
        all_failed: Whether trials have finished, all of them without a value.
        exponent: Of the power of two that takes values to the task's own unit
            (``metahpo.tasks.units``).
    """

    space: Space
    points: Array
    values: Array
    pending: Array
    taken: Array
    all_failed: bool = False
    exponent: int = 0
    completed: Array | None = None

    @cached_property
    def tried(self) -> Tried:
        """Tells which configurations must not be repeated."""
        return Tried(self.space, self.taken, self.completed)

    @property
    def best(self) -> Array:
        """The trials in ``points`` that lie in the space, the best first."""
        ordered = self.points[np.argsort(-self.values, kind="stable")]
        return ordered[self.space.inside(ordered).all(axis=1)]

    @cached_property
    def digests(self) -> tuple[bytes, ...]:
        """Of the first 0, 1, ..., n trials: keys under which fits to these are kept."""
        digest = blake2b(digest_size=16)
        digests = [digest.digest()]
        for point, value in zip(self.points, self.values, strict=True):
            digest.update(point.tobytes() + value.tobytes())
            digests.append(digest.digest())
        return tuple(digests)


def study_arrays(task: Task, space: Space) -> StudyArrays:
    """The trials of a task as arrays.

    Args:
        task: The task so far.
        space: Its space with conditions.
    """
    finished = [trial for trial in task.trials if trial.state is not TrialState.RUNNING]
    values = task.values
    modelled = finished if len(values) else []
    # A failed trial counts as the worst that did not fail: the model learns to stay away.
    known = np.full(len(modelled), values.min(initial=np.inf))
    known[np.array([trial.observed for trial in modelled], dtype=bool)] = values
    scaled, exponent = in_safe_unit(known)
    taken = _points(space, [*finished, *task.running])
    return StudyArrays(
        space,
        points=taken[: len(modelled)],
        values=scaled,
        pending=taken[len(finished) :],
        taken=taken,
        all_failed=bool(finished) and not modelled,
        exponent=exponent,
        completed=_completed(space, finished, taken[: len(finished)]),
    )


def _completed(space: Space, finished: Sequence[Trial], points: Array) -> Array:
    """The points of completed and pruned trials, less those with a value that has no place."""
    rows = [
        row
        for row, (trial, gaps) in enumerate(zip(finished, np.isnan(points), strict=True))
        if trial.state is not TrialState.FAILED
        and not any(space.names[column] in trial.configuration for column in np.flatnonzero(gaps))
    ]
    return points[rows]


def placed(space: Space, configurations: Sequence[Configuration]) -> Array:
    """``n x d``; what was tried beyond the present bounds stays there, as in past tasks."""
    points = space.encode(configurations)
    beyond = np.clip(points, -OUTSIDE, 1.0 + OUTSIDE)
    return np.where(space.inside(points), space.snap(points), beyond)


def _points(space: Space, trials: Sequence[Trial]) -> Array:
    return placed(space, [trial.configuration for trial in trials])
