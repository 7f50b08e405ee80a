"""Points that were not tried: far from all others, beside one, or the first of some."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from metahpo.settings import SearchSettings
from metahpo.surrogate.study_arrays import StudyArrays
from metahpo.tasks.space import INACTIVE_POSITION, Array, Space


def spread(
    study: StudyArrays,
    chosen: Sequence[Array],
    count: int,
    rng: np.random.Generator,
    settings: SearchSettings,
) -> list[Array]:
    """The chosen points, and as many far from them and from all tried as make up the count."""
    points = list(chosen)
    while len(points) < count:
        taken = np.concatenate([study.taken, *[point[None] for point in points]])
        points.append(_farthest(study.space, taken, settings.spread_candidates, rng))
    return points


def _farthest(space: Space, points: Array, count: int, rng: np.random.Generator) -> Array:
    """The farthest of some random configurations from all others (Mitchell 1991).

    Distances wrap around, so that corners are not preferred.
    """
    candidates = space.snap(rng.random((count, len(space))))
    if len(points):
        placed = np.where(np.isnan(points), INACTIVE_POSITION, points)
        gaps = np.abs(candidates[:, None, :] - placed[None, :, :])
        distances = np.minimum(gaps, 1.0 - gaps)
        nearest = (distances**2).sum(-1).min(axis=1)
        # Rounded, so that it is chance that decides between equally far ones.
        candidates = candidates[[np.argmax(nearest.round(9))]]
    return space.activate(candidates[:1])[0]


def first_untried(
    points: Array, tried: Container[bytes], space: Space, rng: np.random.Generator
) -> Array:
    """The first point that was not tried; near the first one where all were."""
    for point in points:
        if space.key(point) not in tried:
            return point
    start = np.where(np.isnan(points[0]), INACTIVE_POSITION, points[0])
    for scale in np.geomspace(0.05, 1.0, 20):
        moved = start + scale * rng.standard_normal(len(space))
        point = space.activate(space.snap(moved[None]))[0]
        if space.key(point) not in tried:
            return point
    # A small discrete space can be used up: repeat the best.
    return points[0]


def beside(point: Array, space: Space, jitter: float, rng: np.random.Generator) -> Array:
    """A point beside it, reflected at the bounds.

    Workers that decide at the same time take a batch's different points, but where one has seen a
    trial more than the other their batches differ, and might else meet in the very same corner.

    Args:
        point: ``d``.
        space: The space.
        jitter: Standard deviation of the move, as a fraction of the range.
        rng: Of the move.
    """
    numerical = ~np.asarray(space.is_categorical, dtype=bool)
    moved = np.nan_to_num(point, nan=INACTIVE_POSITION)
    moved = np.abs(moved + jitter * numerical * rng.standard_normal(len(space)))
    moved = np.where(moved > 1.0, 2.0 - moved, moved)
    return space.activate(space.snap(moved[None]))[0]
