"""Where past tasks are kept and where they come from.

``archive`` is the portable form, one Parquet file a task (``task_table``); ``sources`` is the one
door through which anything that a user names as history becomes past tasks. Public: what is
listed below. A new reader needs no change here: it is one file and one entry point.
"""

from metahpo.archive.archive import Archive, Outcome
from metahpo.archive.errors import ArchiveError, ArchiveWarning, SourceError, SourceWarning

__all__ = [
    "Archive",
    "ArchiveError",
    "ArchiveWarning",
    "Outcome",
    "SourceError",
    "SourceWarning",
]
