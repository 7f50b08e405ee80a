"""Configurations that the user names: tried first, in order, unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raytune_meta.arguments import checked_points
from raytune_meta.nested_space import SearchSpace
from raytune_meta.trees import nested


class GivenPoints:
    """Points to evaluate first, with their values where known.

    Args:
        points: Nested, or flat with ``/`` between the levels.
        rewards: The metric's values at them; None if they are to be run.

    Attributes:
        used: How many were used so far.

    Raises:
        TypeError: For points that are not dictionaries, and rewards that are not numbers.
        ValueError: For another number of rewards than of points.
    """

    def __init__(
        self, points: Sequence[Mapping[str, Any]] | None, rewards: Sequence[float] | None
    ) -> None:
        self._points, self._rewards = checked_points(points, rewards)
        self.used = 0

    @property
    def left(self) -> bool:
        """Whether some are not used yet."""
        return self.used < len(self._points)

    def next(self) -> dict[str, Any] | None:
        """Return the next one to run, as a tree; None once all are used."""
        if not self.left:
            return None
        self.used += 1
        return nested(self._points[self.used - 1])

    def evaluated(self) -> Iterator[tuple[dict[str, Any], float]]:
        """Yield the points with known values, once: then they count as used."""
        if self._rewards and not self.used:
            self.used = len(self._points)
            for point, reward in zip(self._points, self._rewards, strict=True):
                yield dict(point), reward


def is_whole(space: SearchSpace, read: Mapping[str, Any]) -> bool:
    """Return whether a point says of every hyperparameter that is active in it what it is."""
    full = space.space
    (active,) = full.decode(full.canonical(full.encode([read])))
    return active.keys() <= read.keys()
