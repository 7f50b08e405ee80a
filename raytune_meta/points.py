"""Points that the user gives beforehand: tried first, in their order, as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from metahpo.tasks.space import Configuration
from raytune_meta.arguments import checked_points
from raytune_meta.space import SearchSpace, nested


class GivenPoints:
    """The points, what is known of their values, and how many were used.

    Args:
        points: Nested, or flat with ``/`` between the levels.
        rewards: The metric's values at them; None where they are to be run.

    Raises:
        TypeError: For points that are no dictionaries, and rewards that are no numbers.
        ValueError: For rewards that are not as many.
    """

    def __init__(
        self, points: Sequence[Mapping[str, Any]] | None, rewards: Sequence[float] | None
    ) -> None:
        self._points = checked_points(points, rewards)
        self._rewards = list(rewards or ())
        self.used = 0

    @property
    def left(self) -> bool:
        """Whether some were not used yet."""
        return self.used < len(self._points)

    def next(self) -> dict[str, Any] | None:
        """The next one to run, as a tree; None where all were used."""
        if not self.left:
            return None
        self.used += 1
        return nested(self._points[self.used - 1])

    def evaluated(self) -> Iterator[tuple[dict[str, Any], float]]:
        """Points with known values, once: they count as used then."""
        if self._rewards and not self.used:
            self.used = len(self._points)
            for point, reward in zip(self._points, self._rewards, strict=True):
                yield dict(point), reward


def filled(
    space: SearchSpace, read: Mapping[str, Any], suggested: Configuration
) -> dict[str, Any]:
    """The configuration of a point: its own values as they are, the others as suggested."""
    full = space.space
    points = full.activate(full.encode([{**suggested, **read}]))
    return {name: read.get(name, value) for name, value in full.decode(points)[0].items()}
