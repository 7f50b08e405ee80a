"""Names of an archive's files: which task, which content, and which version is the later one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from metahpo.archive.digests import DIGITS, digest
from metahpo.tasks.task import Task

SUFFIX = ".parquet"
_HEX = "[0-9a-f]"
_NAME = re.compile(
    rf"(?P<identity>.*-{_HEX}{{{DIGITS}}})-(?P<content>{_HEX}{{{DIGITS}}})"
    rf"(?:-(?P<stamp>0{_HEX}{{15}}))?{re.escape(SUFFIX)}",
    re.DOTALL,
)
# Stamps count these, in one second.
MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class FileName:
    """The name that an archive gives a file.

    Attributes:
        identity: Stands for the task: its name in readable letters, and a digest of name and
            creation time.
        content: Digest of the task.
        stamp: When a later version of the task was written, in microseconds since 1970, and in
            any case larger than the stamps of the versions it replaces; 0 for the first version.
    """

    identity: str
    content: str
    stamp: int = 0

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        """Return what a file's name says; None for a name that a user gave."""
        parts = _NAME.fullmatch(name)
        if parts is None:
            return None
        return cls(parts["identity"], parts["content"], int(parts["stamp"] or "0", 16))

    def __str__(self) -> str:
        stamp = f"-{self.stamp:016x}" if self.stamp else ""
        return f"{self.identity}-{self.content}{stamp}{SUFFIX}"

    @property
    def written(self) -> float:
        """The stamp as a POSIX timestamp in seconds."""
        return self.stamp / MICROSECONDS

    def replacing(self, others: Sequence[FileName], now: float) -> FileName:
        """Return this name as that of a version that replaces others, if there are any.

        Args:
            others: Their names.
            now: POSIX timestamp in seconds. Clocks differ, so that it may lie before a stamp.
        """
        if not others:
            return self
        largest = max(other.stamp for other in others)
        return replace(self, stamp=max(int(now * MICROSECONDS), largest + 1))


def identity_of(task: Task) -> str:
    """Return the part of a file's name that stands for its task."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", task.name)[:60].strip("-._") or "task"
    return f"{readable}-{digest([task.name, task.created])}"
