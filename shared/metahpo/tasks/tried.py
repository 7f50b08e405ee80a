"""Which points of a space were tried.

A host that defines by run never states its conditions, and not all can be inferred: one on two
parents cannot. A trial then lacks a hyperparameter that counts as active, and whatever value is
suggested for it, the same would be run again. So a completed trial covers every point that agrees
with it in what it has.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

from metahpo.tasks.space import Array, Space

# Columns that some trials have, and the keys of these trials in these columns alone.
_Partly = tuple[NDArray[np.bool_], AbstractSet[bytes]]


class Tried:
    """Tells which points in canonical form were tried.

    Args:
        space: The space, with its conditions.
        taken: ``k x d``, trials; each is tried itself.
        completed: ``c x d``, trials that requested all that they would, in their order; NaN is
            what they did not request.
    """

    def __init__(self, space: Space, taken: Array, completed: Array | None = None) -> None:
        self._keys: AbstractSet[bytes] = frozenset(Space.keys(_without_inactive(space, taken)))
        self._partly: list[_Partly] = []
        if completed is not None and len(completed):
            self._partly = _partly(space, completed)

    def __len__(self) -> int:
        """How many different trials there are."""
        return len(self._keys)

    def __call__(self, points: Array) -> NDArray[np.bool_]:
        """Whether each of ``n x d`` points, in canonical form, was tried."""
        found = _among(points, self._keys)
        for has, keys in self._partly:
            found |= _among(np.where(has, points, np.nan), keys)
        return found

    def and_also(self, points: Iterable[Array]) -> Tried:
        """The same and further points, ``d`` each, in canonical form."""
        further = Tried.__new__(Tried)
        further._keys = self._keys | {Space.key(point) for point in points}
        further._partly = self._partly
        return further


def _among(points: Array, keys: AbstractSet[bytes]) -> NDArray[np.bool_]:
    return np.fromiter((key in keys for key in Space.keys(points)), bool, len(points))


def _without_inactive(space: Space, points: Array) -> Array:
    """Points without what the conditions rule out, else as they are, beyond the bounds too."""
    return np.where(np.isnan(space.canonical(points)), np.nan, points)


def _partly(space: Space, completed: Array) -> list[_Partly]:
    """The trials that lack something active, by what they have."""
    has = ~np.isnan(completed)
    lacks = ~np.isnan(space.canonical(completed)) & ~has
    # A trial without any of the hyperparameters says nothing.
    covers = lacks.any(axis=1) & has.any(axis=1) & ~(lacks & ~_optional(has)).any(axis=1)
    grouped: dict[bytes, list[int]] = {}
    for row in np.flatnonzero(covers):
        grouped.setdefault(has[row].tobytes(), []).append(int(row))
    return [(has[rows[0]], frozenset(Space.keys(completed[rows]))) for rows in grouped.values()]


def _optional(has: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``d``: whether a study may do without each hyperparameter that some of its trials lack.

    One that two or more trials have, and all from the first of them on, is new: earlier ones ran
    without it, which says nothing of what comes of it.
    """
    first = has.argmax(axis=0)
    since = [has[start:, column] for column, start in enumerate(first)]
    return np.array([len(present) < 2 or not present.all() for present in since], bool)
