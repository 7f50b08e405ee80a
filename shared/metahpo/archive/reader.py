"""The contract of a reader: how one kind of source becomes past tasks.

A new kind of source is one file with a class like these and one line under the entry-point group
``metahpo.readers``; docs/extending.md shows one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from metahpo.tasks.task import Task


@dataclass(frozen=True)
class ReadOptions:
    """What some readers need besides the source.

    Attributes:
        metric: Name of the value that was tuned, for sources that log several.
        mode: Whether that metric was maximised or minimised.
        constraints: Names of values that are at most 0 where a constraint holds, for sources that
            do not say which of their values are constraints.
        user_attributes: Whether to read what users noted on tasks and trials: archives keep it,
            and nothing is learned from it.
    """

    metric: str | None = None
    mode: Literal["max", "min"] | None = None
    constraints: tuple[str, ...] = ()
    user_attributes: bool = False


class Reader(Protocol):
    """Reads one kind of source. Registered as a class that takes no arguments."""

    @property
    def types(self) -> tuple[type, ...]:
        """Types of sources it may read; paths arrive as ``str``."""
        ...

    @property
    def accepts(self) -> str:
        """Its sources as a noun phrase, for error messages."""
        ...

    @property
    def looks_for(self) -> str:
        """What a source must hold, as a noun phrase, for error messages."""
        ...

    def read(self, source: Any, options: ReadOptions) -> Iterable[Task]:
        """Return the past tasks of a source, in the order in which they were created.

        Values are maximised, trials that violate a constraint have a ``violation``, tasks name
        their ``source`` (without passwords), and nothing is written anywhere.

        Args:
            source: Of one of ``types``.
            options: What some readers need besides.

        Raises:
            UnrecognisedSourceError: For a source of another kind; other readers are tried next.
            SourceError: For a source of this kind that cannot be read; ends the search.
        """
        ...
