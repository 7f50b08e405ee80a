"""Reading all files of an archive, beside processes that write to it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from metahpo.archive.errors import ArchiveError, ArchiveWarning
from metahpo.archive.limits import ARCHIVED_TRIALS, FILE_BYTES, MOST_ENTRIES, ROUNDS
from metahpo.archive.place import Entry, Place
from metahpo.archive.shown import printable
from metahpo.archive.task_file import ArchivedTask, read_task

# Concurrent reads: object stores take tens of milliseconds per file.
_READERS = 8
# Unparsed files held in memory at a time, and their bytes.
_BATCH = 64
_BATCH_BYTES = 2 * FILE_BYTES
# Broken trials of a file that its warning describes.
_DESCRIBED = 3


def listed(place: Place) -> list[Entry]:
    """Return the Parquet files of an archive.

    Raises:
        ArchiveError: If there is no folder, or it cannot be listed.
    """
    try:
        return place.entries(sizes=True)
    except FileNotFoundError:
        raise ArchiveError(f"there is no archive at {place.path}", place.path) from None


def read_folder(place: Place) -> list[ArchivedTask]:
    """Return the tasks of all readable files, in the order of their names.

    An ``ArchiveWarning`` names each file that is skipped, or whose trials are.

    Raises:
        ArchiveError: As ``listed``.
    """
    reading = _Reading(place)
    waiting = reading.first(listed(place))
    for _ in range(ROUNDS):
        vanished = reading.read(waiting)
        if not vanished:
            break
        # Another process has replaced these: their successors are complete by now. Tasks that have
        # appeared since are left to the next reader, so that this one ends.
        found = (entry for entry in listed(place) if entry.identity in vanished)
        waiting = [entry for entry in found if entry.name not in reading.found]
    else:
        reading.skip(waiting, f"replaced {ROUNDS} times while it was read")
    reading.warn_of_skipped()
    return [reading.found[name] for name in sorted(reading.found)]


@dataclass
class _Reading:
    """What has been read of an archive so far.

    Attributes:
        place: Where it is.
        found: Tasks by name of the file.
        trials: Their number.
        warnings: What was skipped, and why.
    """

    place: Place
    found: dict[str, ArchivedTask] = field(default_factory=dict)
    trials: int = 0
    warnings: list[str] = field(default_factory=list)

    def first(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return the files that are read at most."""
        if len(entries) > MOST_ENTRIES:
            self.skip(entries[MOST_ENTRIES:], f"it comes after {MOST_ENTRIES:,} others")
        return entries[:MOST_ENTRIES]

    def read(self, entries: Sequence[Entry]) -> set[str]:
        """Read files; return the identities of those that no longer exist."""
        vanished: set[str] = set()
        with ThreadPoolExecutor(_READERS) as pool:
            for start, batch in _batches(entries):
                contents = pool.map(self._content, batch)
                for number, (entry, content) in enumerate(
                    zip(batch, contents, strict=True), start
                ):
                    if self.trials >= ARCHIVED_TRIALS:
                        why = f"the others have {ARCHIVED_TRIALS:,} trials or more"
                        self.skip(entries[number:], why)
                        return vanished
                    if content is None:
                        vanished.add(entry.identity)
                    else:
                        self._take(entry, content)
        return vanished

    def _content(self, entry: Entry) -> bytes | ArchiveError | None:
        try:
            return self.place.read(entry)
        except ArchiveError as error:
            return error

    def _take(self, entry: Entry, content: bytes | ArchiveError) -> None:
        try:
            if isinstance(content, ArchiveError):
                raise content
            archived = read_task(content, entry.parts)
        # Whatever a broken file makes Arrow raise costs that file alone.
        except Exception as error:
            self.warnings.append(f"skipped {entry.path}: {error}")
            return
        self.found[entry.name] = archived
        self.trials += len(archived.task.trials)
        if archived.faults:
            self.warnings.append(f"skipped {_described(archived.faults)}, of {entry.path}")

    def skip(self, entries: Sequence[Entry], why: str) -> None:
        """Note files that are not read."""
        if entries:
            others = f" and {len(entries) - 1:,} other files" if len(entries) > 1 else ""
            self.warnings.append(f"skipped {entries[0].path}{others}: {why}")

    def warn_of_skipped(self) -> None:
        """Warn of what was skipped; called by read_folder, called by Archive, called by users."""
        for text in self.warnings:
            warnings.warn(printable(text), ArchiveWarning, stacklevel=4)


def _described(faults: Sequence[str]) -> str:
    count = f"{len(faults):,} {'trial' if len(faults) == 1 else 'trials'}"
    rest = " and others" if len(faults) > _DESCRIBED else ""
    return f"{count} ({'; '.join(faults[:_DESCRIBED])}{rest})"


def _batches(entries: Sequence[Entry]) -> Iterator[tuple[int, Sequence[Entry]]]:
    """Yield files in groups that fit into memory, each with the index of its first."""
    start = size = 0
    for end, entry in enumerate(entries):
        own = FILE_BYTES if entry.size is None else entry.size
        if end > start and (end - start == _BATCH or size + own > _BATCH_BYTES):
            yield start, entries[start:end]
            start, size = end, 0
        size += own
    if start < len(entries):
        yield start, entries[start:]
