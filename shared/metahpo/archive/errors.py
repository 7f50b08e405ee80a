"""Errors and warnings about sources of past tasks: a small family, and no passwords in it."""

from __future__ import annotations

import re

# SQLAlchemy and fsspec write credentials as scheme://user:password@host. A password may itself
# hold "/" or "@" where somebody forgot to escape it.
_CREDENTIALS = re.compile(r"(://[^:/@\s]*):\S*@")
_SECRET_NAMES = "password|passwd|pwd|secret|token|sig|signature|credential|key"
_SECRET_OPTION = re.compile(rf"([?&][^=&\s]*(?:{_SECRET_NAMES})=)[^&\s'\"]*", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """A text with the passwords of the URLs in it replaced by ``***``."""
    return _SECRET_OPTION.sub(r"\1***", _CREDENTIALS.sub(r"\1:***@", text))


def _clean(message: str) -> str:
    """Return an error message on one line and without passwords."""
    return without_passwords(message.replace("\n", " "))


class SourceError(ValueError):
    """A source of past tasks cannot be read.

    Args:
        message: Which source, what was wrong, and what to do; passwords in it are hidden.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_clean(message))


class UnrecognisedSourceError(SourceError):
    """A source is not of the kind that a reader reads; the message says what was looked for."""


class EmptySourceError(SourceError):
    """A source was recognised and holds no task."""


class SourceWarning(UserWarning):
    """Part of a source was skipped.

    Args:
        message: Which part and why; passwords in it are hidden.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_clean(message))


class ArchiveError(ValueError):
    """An archive cannot be read, or a task cannot be written to it.

    Args:
        message: Which archive or task, and why; passwords in it are hidden.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_clean(message))


class ArchiveWarning(SourceWarning):
    """A file of an archive was skipped."""
