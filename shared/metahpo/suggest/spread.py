"""Points that were not tried: far from all others, beside one, or the first of some.

Notation: ``held`` is ``d`` positions that are given, NaN where there is a choice
(``metahpo.tasks.space.Space.canonical``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from metahpo.settings import SearchSettings
from metahpo.surrogate.study_arrays import StudyArrays
from metahpo.tasks.space import INACTIVE_POSITION, Array, Space
from metahpo.tasks.tried import Tried


def spread(
    study: StudyArrays,
    chosen: Sequence[Array],
    count: int,
    rng: np.random.Generator,
    settings: SearchSettings,
    held: Array | None = None,
    cells: Array | None = None,
) -> list[Array]:
    """The chosen points, and as many far from them and from all tried as make up the count.

    Args:
        study: The study.
        chosen: Points that come first.
        count: How many points there are to be.
        rng: Of the random configurations.
        settings: How many of these there are for each point.
        held: What further points are to have.
        cells: All configurations with that, where they are listed; they take the place of random
            ones.
    """
    points = list(chosen)
    space = study.space
    while len(points) < count:
        taken = np.concatenate([study.taken, *[point[None] for point in points]])
        tried = study.tried.and_also(points)
        if cells is None:
            drawn = space.snap(rng.random((settings.spread_candidates, len(space))))
        else:
            drawn = cells[rng.permutation(len(cells))]
        existing = space.canonical(drawn, held)
        fresh = ~tried(existing)
        if fresh.any():
            points.append(_farthest(drawn[fresh], existing[fresh], taken, held))
        elif cells is None:
            points.append(first_untried(existing, tried, space, rng, held))
        else:
            # All that there is was listed, and tried.
            points.append(existing[0])
    return points


def _farthest(candidates: Array, existing: Array, taken: Array, held: Array | None) -> Array:
    """The one of some candidates that is farthest from all others (Mitchell 1991).

    Distances wrap around, so that corners are not preferred.

    Args:
        candidates: ``n x d``.
        existing: The same in canonical form.
        taken: ``k x d``, what it is to be far from.
        held: What the candidates are to have.
    """
    if not len(taken):
        return existing[0]
    if held is not None:
        candidates = np.where(np.isnan(held), candidates, held)
    placed, others = (np.where(np.isnan(x), INACTIVE_POSITION, x) for x in (candidates, taken))
    gaps = np.abs(placed[:, None, :] - others[None, :, :])
    distances = np.minimum(gaps, 1.0 - gaps)
    nearest = (distances**2).sum(-1).min(axis=1)
    # Rounded, so that it is chance that decides between equally far ones.
    return existing[np.argmax(nearest.round(9))]


def first_untried(
    points: Array,
    tried: Tried,
    space: Space,
    rng: np.random.Generator,
    held: Array | None = None,
) -> Array:
    """The first point that was not tried; near the first one where all were.

    Args:
        points: ``n x d``, in canonical form.
        tried: Tells what was tried.
        space: A space too large to be listed (``metahpo.suggest.cells``).
        rng: Of the points near the first one.
        held: What the point is to have.

    Returns:
        ``d``, in canonical form. The first point itself only where no other is found.
    """
    fresh = np.flatnonzero(~tried(points))
    if len(fresh):
        return points[fresh[0]]
    start = np.where(np.isnan(points[0]), INACTIVE_POSITION, points[0])
    scales = np.geomspace(0.05, 1.0, 20)
    moved = start + scales[:, None] * rng.standard_normal((len(scales), len(space)))
    around = space.canonical(moved, held)
    fresh = np.flatnonzero(~tried(around))
    if len(fresh):
        return around[fresh[0]]
    # Chance may miss the last ones of a discrete space. Where trials cover more than themselves,
    # the whole of it may be tried, however large it is: then the search gives up.
    nearest = islice(_outwards(points[0], space, held), len(tried) + 1)
    return next((point for point in nearest if not tried(point[None])[0]), points[0])


def _outwards(start: Array, space: Space, held: Array | None) -> Iterator[Array]:
    """The configurations that changes of discrete hyperparameters lead to, each once.

    One level at a time, breadth first: every configuration of a discrete space is reached, and an
    untried one after no more of them than are tried.
    """
    free = [
        column
        for column, levels in enumerate(space.levels)
        if levels > 1 and (held is None or np.isnan(held[column]))
    ]
    seen, waiting = {space.key(start)}, deque([start])
    while waiting:
        point = waiting.popleft()
        moves = [
            (column, position)
            for column in free
            if not np.isnan(point[column])
            for position in space.adjacent_levels(column, point[column])
        ]
        changed = np.repeat(point[None], len(moves), axis=0)
        for row, (column, position) in zip(changed, moves, strict=True):
            row[column] = position
        for neighbour in space.canonical(changed, held):
            if (key := space.key(neighbour)) not in seen:
                seen.add(key)
                waiting.append(neighbour)
                yield neighbour


def beside(
    point: Array,
    space: Space,
    jitter: float,
    rng: np.random.Generator,
    held: Array | None = None,
) -> Array:
    """A point beside it, reflected at the bounds.

    Workers that decide at the same time take a batch's different points, but where one has seen a
    trial more than the other their batches differ, and might else meet in the very same corner.

    Args:
        point: ``d``.
        space: The space.
        jitter: Standard deviation of the move, as a fraction of the range.
        rng: Of the move.
        held: What the point is to have.
    """
    numerical = ~np.asarray(space.is_categorical, dtype=bool)
    moved = np.nan_to_num(point, nan=INACTIVE_POSITION)
    moved = np.abs(moved + jitter * numerical * rng.standard_normal(len(space)))
    moved = np.where(moved > 1.0, 2.0 - moved, moved)
    return space.canonical(moved[None], held)[0]
