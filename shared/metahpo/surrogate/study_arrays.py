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
from metahpo.tasks.units import in_safe_unit


@dataclass(frozen=True, eq=False)
class StudyArrays:
    """The task so far.

    Attributes:
        space: The space, with conditions.
        points: ``n x d`` observed trials.
        values: ``n``, effective (``Task.values``), in a unit that is safe for arithmetic; a failed
            trial counts as the worst one seen.
        pending: ``m x d``, running trials.
        taken: ``k x d``, all finished and running trials.
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

    @cached_property
    def tried(self) -> frozenset[bytes]:
        """Keys of the configurations that must not be repeated."""
        return frozenset(self.space.keys(self.taken))

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
    observed = finished if len(values) else []
    # A failed trial counts as the worst that did not fail: the model learns to stay away.
    known = np.full(len(observed), values.min(initial=np.inf))
    known[np.array([trial.observed for trial in observed], dtype=bool)] = values
    scaled, exponent = in_safe_unit(known)
    taken = _points(space, [*finished, *task.running])
    return StudyArrays(
        space,
        points=taken[: len(observed)],
        values=scaled,
        pending=taken[len(finished) :],
        taken=taken,
        all_failed=bool(finished) and not observed,
        exponent=exponent,
    )


def placed(space: Space, configurations: Sequence[Configuration]) -> Array:
    """``n x d``; what was tried beyond the present bounds stays there, as in past tasks."""
    points = space.encode(configurations)
    beyond = np.clip(points, -OUTSIDE, 1.0 + OUTSIDE)
    return np.where(space.inside(points), space.snap(points), beyond)


def _points(space: Space, trials: Sequence[Trial]) -> Array:
    return placed(space, [trial.configuration for trial in trials])
