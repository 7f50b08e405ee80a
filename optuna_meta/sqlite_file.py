"""SQLite files, read without leaving a trace.

SQLite itself cannot always read without writing: a database with a write-ahead log needs files
beside it, which stay and lock its owner out where another user made them, and what a killed
process left has to be rolled back first. Such databases are copied, and the copy is read.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

from metahpo.archive import SourceError
from metahpo.archive.limits import LARGEST_FILE
from metahpo.archive.shown import reason_of

MAGIC = b"SQLite format 3\0"
WAL, JOURNAL = "-wal", "-journal"
_CHUNK = 2**20
# The header of a write-ahead log changes when the log starts anew; what is appended does no harm.
_WAL_HEADER = 32
# File systems note times of changes this coarsely, with some reserve.
_COARSE = 0.05
# How often a copy is tried while somebody writes, and the pause after each: three seconds in all.
_TRIES, _PAUSE = 30, 0.1


@dataclass
class _Open:
    """A descriptor, shared by all that read its file, and how many they are.

    It may stay without readers: see ``_release``.
    """

    descriptor: int
    readers: int = 0


# By device and inode. Threads open, close and (on Windows) seek one at a time.
_open_files: dict[tuple[int, int], _Open] = {}
_lock = Lock()


def head(path: Path, size: int = 100) -> bytes:
    """Return the first bytes of a regular file.

    Raises:
        OSError: For a file that cannot be read.
    """
    descriptor = _opened(path)
    try:
        return _read_at(descriptor, size, 0)
    finally:
        _release(descriptor)


def needs_copy(path: Path) -> bool:
    """Whether SQLite would write beside a database file in order to read it.

    Raises:
        OSError: For a file that cannot be read.
    """
    uses_log = b"\x02" in head(path, 20)[18:20]
    return uses_log or _beside(path, WAL).exists()


@contextmanager
def private_copy(path: Path, name: str) -> Iterator[Path]:
    """Copy a database consistently, with its log, into a temporary folder.

    Args:
        path: The database file.
        name: What the database is called in errors.

    Raises:
        SourceError: For a file that is too large, cannot be copied, or is being written without
            a pause.
    """
    with TemporaryDirectory(prefix="metahpo-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "copy.sqlite3"
        try:
            for _ in range(_TRIES):
                if _copied(path, copy):
                    break
                time.sleep(_PAUSE)
            else:
                raise SourceError(
                    f"cannot read {name}: it is being written without a pause; try again, or "
                    "read a backup (`sqlite3 FILE '.backup COPY'`)"
                )
        except OSError as error:
            raise SourceError(f"cannot read {name}: {reason_of(error)}") from error
        yield copy


def check_size(path: Path, name: str) -> None:
    """Raise SourceError for a file that is larger than ``LARGEST_FILE``."""
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise SourceError(f"cannot read {name}: it has {size:,} bytes, {LARGEST_FILE:,} are read")


# ---- copying -------------------------------------------------------------------------------


def _copied(path: Path, copy: Path) -> bool:
    """Copy a database and what lies beside it; return whether nobody wrote meanwhile."""
    before = _state(path)
    if 0.0 <= time.time() - path.stat().st_mtime < _COARSE:
        return False
    for suffix in ("", WAL, JOURNAL):
        source, target = _beside(path, suffix), _beside(copy, suffix)
        if source.is_file():
            _copy(source, target)
        else:
            target.unlink(missing_ok=True)
    return _state(path) == before


def _state(path: Path) -> tuple[object, ...]:
    """Return what differs if a database was written so that a copy made meanwhile is torn.

    Appending to the write-ahead log does not tear: its last, incomplete entries are ignored.
    """
    log = _beside(path, WAL)
    return (
        _stamp(path),
        _stamp(_beside(path, JOURNAL)),
        head(log, _WAL_HEADER) if log.is_file() else None,
    )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _copy(source: Path, target: Path) -> None:
    descriptor = _opened(source)
    try:
        position = 0
        with target.open("wb") as file:
            while chunk := _read_at(descriptor, _CHUNK, position):
                file.write(chunk)
                position += len(chunk)
                if position > LARGEST_FILE:
                    raise OSError(f"{source.name} has more than {LARGEST_FILE:,} bytes")
    finally:
        _release(descriptor)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


# ---- descriptors ---------------------------------------------------------------------------


def _opened(path: Path) -> int:
    """Return a descriptor for reading a regular file, to be given to ``_release``."""
    with _lock:
        found = path.stat()
        key = found.st_dev, found.st_ino
        if key not in _open_files:
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{path} is not a regular file")
            flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
            descriptor = os.open(path, flags)
            key = _key(descriptor)  # Of what was opened: the path may be another file's by now.
            _open_files.setdefault(key, _Open(descriptor))
        file = _open_files[key]
        file.readers += 1
        return file.descriptor


def _key(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _read_at(descriptor: int, size: int, position: int) -> bytes:
    if sys.platform != "win32":
        return os.pread(descriptor, size, position)
    with _lock:
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.read(descriptor, size)


def _release(descriptor: int) -> None:
    """Close a descriptor after its last reader, unless this process has the file open elsewhere.

    On closing any descriptor of a file, POSIX drops all locks that the process has on it, which
    may be those of a study that is writing in another thread
    (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    with _lock:
        key = _key(descriptor)
        file = _open_files[key]
        file.readers -= 1
        if not file.readers and not _is_open_elsewhere(descriptor, os.fstat(descriptor)):
            del _open_files[key]
            os.close(descriptor)


def _is_open_elsewhere(descriptor: int, found: os.stat_result) -> bool:
    try:
        others = [int(name) for name in os.listdir("/dev/fd")]  # noqa: PTH208 - names of numbers
    except OSError:
        return False
    for other in others:
        try:
            if other != descriptor and os.path.samestat(os.fstat(other), found):
                return True
        except OSError:  # the descriptor of this very listing
            continue
    return False
