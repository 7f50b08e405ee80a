"""The history as surrogates read it: past tasks seen from the present search space."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from metahpo.surrogate.cache import Cache
from metahpo.surrogate.features import FeatureMap
from metahpo.tasks.alignment import AlignedTask
from metahpo.tasks.space import Array, Space

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class AlignedHistory:
    """Past tasks in the present space, and whatever surrogates have made of them.

    Attributes:
        space: The present space, with the conditions that the history shows.
        tasks: ``t`` aligned tasks, thinned; none where nothing overlaps.
        relevance: ``t`` weights that sum to 1: how much each past task matters beforehand.
    """

    space: Space
    tasks: tuple[AlignedTask, ...] = ()
    relevance: Array = field(default_factory=lambda: np.empty(0))
    _caches: dict[str, Cache] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def features(self) -> FeatureMap:
        """The features of the space's points."""
        return FeatureMap(self.space)

    def remember(self, what: str, key: Hashable, make: Callable[[], T], *, most: int = 1) -> T:
        """What ``make`` returned when it was first needed; workers and restarts come to the same.

        Args:
            what: The kind of thing that is kept.
            key: What it depends on, besides this history.
            make: Makes it, of the key and of this history alone.
            most: How many of the kind are kept, the most recently used ones.
        """
        return self._caches.setdefault(what, Cache(most)).get(key, make)
