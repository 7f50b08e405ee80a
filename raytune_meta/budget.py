"""How much is read of one source, however many experiments it holds."""

from __future__ import annotations

import time
from threading import Lock

from metahpo.archive.limits import LARGEST_FOLDER, LONGEST_READ


class Budget:
    """The bytes and the time that are left for a source; threads may share it.

    Attributes:
        bytes_left: Negative once more was read.
    """

    def __init__(self) -> None:
        self.bytes_left = LARGEST_FOLDER
        self._end = time.monotonic() + LONGEST_READ
        self._lock = Lock()

    @property
    def spent(self) -> bool:
        """Whether nothing more may be read."""
        return self.bytes_left < 0 or time.monotonic() > self._end

    def spend(self, size: int) -> None:
        """Count bytes that were read."""
        with self._lock:
            self.bytes_left -= size

    def left_out(self, rest: int, count: int) -> str:
        """Return that so many of all folders were left out, and why."""
        return (
            f"{rest:,} of {count:,} folders: {LARGEST_FOLDER:,} bytes are read in "
            f"{LONGEST_READ:.0f} seconds"
        )
