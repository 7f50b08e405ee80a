"""Where past tasks are kept and where they come from.

``archive`` is the portable form, one Parquet file per task (``task_table`` writes it,
``task_file`` reads it, ``limits`` bounds it, ``place`` is the folder); ``sources`` is the one door
for histories, ``reader`` the contract of what reads them. Public: what is listed below.
May be touched: a new reader is one file anywhere and one entry point (docs/extending.md).
"""

from metahpo.archive.archive import Archive, Outcome
from metahpo.archive.errors import (
    ArchiveError,
    ArchiveWarning,
    EmptySourceError,
    SourceError,
    SourceWarning,
    UnrecognisedSourceError,
)
from metahpo.archive.reader import Reader, ReadOptions

__all__ = [
    "Archive",
    "ArchiveError",
    "ArchiveWarning",
    "EmptySourceError",
    "Outcome",
    "ReadOptions",
    "Reader",
    "SourceError",
    "SourceWarning",
    "UnrecognisedSourceError",
]
