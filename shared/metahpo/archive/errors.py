"""Errors and warnings about sources of past tasks: a small family, and no secrets in it."""

from __future__ import annotations

from metahpo.archive.shown import message_of


class _WithoutSecrets(Exception):
    def __init__(self, message: str, source: object = "") -> None:
        super().__init__(message_of(message, source if isinstance(source, str) else ""))


class SourceError(_WithoutSecrets, ValueError):
    """A source of past tasks cannot be read.

    Args:
        message: Which source, what was wrong, and what to do; passwords in it are hidden.
        source: The source's name as the user gave it, if it is a string: its secrets are hidden
            wherever the message quotes them.
    """


class UnrecognisedSourceError(SourceError):
    """A source is not of the kind that a reader reads; the message says what was looked for."""


class EmptySourceError(SourceError):
    """A source was recognised and holds no task."""


class SourceWarning(_WithoutSecrets, UserWarning):
    """Part of a source was skipped.

    Args:
        message: Which part and why; passwords in it are hidden.
        source: As in ``SourceError``.
    """


class ArchiveError(_WithoutSecrets, ValueError):
    """An archive cannot be read, or a task cannot be written to it.

    Args:
        message: Which archive or task, and why; passwords in it are hidden.
        source: As in ``SourceError``.
    """


class ArchiveWarning(SourceWarning):
    """A file of an archive was skipped."""
