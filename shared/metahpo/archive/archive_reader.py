"""The reader of archives."""

from __future__ import annotations

from metahpo.archive.archive import Archive
from metahpo.archive.errors import ArchiveError, UnrecognisedSourceError
from metahpo.archive.reader import ReadOptions
from metahpo.archive.shown import cause_of
from metahpo.tasks.task import Task


class ArchiveReader:
    """Reads archives, as objects or by their paths and URLs."""

    types = (str, Archive)
    accepts = "an Archive or the path or URL of one"
    looks_for = "a Parquet file of an archived task"

    def read(self, source: str | Archive, options: ReadOptions) -> list[Task]:
        """Return the tasks of an archive, ordered by name.

        Args:
            source: The archive, its path or its URL.
            options: Not used: archived values are maximised already.

        Raises:
            UnrecognisedSourceError: Where there is no archive, or no file of it can be read.
        """
        path = source.path if isinstance(source, Archive) else source
        try:
            archive = source if isinstance(source, Archive) else Archive(source)
            tasks = archive.tasks()
            files = 0 if tasks else len(archive)
        except ArchiveError as error:
            raise UnrecognisedSourceError(str(error), path) from cause_of(error, path)
        if files:
            raise UnrecognisedSourceError(
                f"none of the {files} Parquet files in {path} is an archived task that "
                "can be read (a warning names each)",
                path,
            )
        if not tasks:
            raise UnrecognisedSourceError(f"there are no Parquet files in {path}", path)
        return tasks
