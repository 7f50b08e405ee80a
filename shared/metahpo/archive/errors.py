"""What goes wrong with sources of past tasks: a small family of errors and warnings."""

from __future__ import annotations


class SourceError(ValueError):
    """A source of tasks that a reader cannot read; the message names it and says why.

    Args:
        message: What people are told.
        recognised: Whether the source is of the reader's kind, so that no other reader need
            be asked and this message is the one that helps.
    """

    def __init__(self, message: str, *, recognised: bool = False) -> None:
        super().__init__(message)
        self.recognised = recognised


class SourceWarning(UserWarning):
    """A part of a source was passed over; the message names it and says why."""


class ArchiveError(ValueError):
    """An archive that cannot be read, or a task that cannot be written; says which and why."""


class ArchiveWarning(SourceWarning):
    """A file of an archive was passed over; the message names it and says why."""
