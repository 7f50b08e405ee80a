"""The folder of an archive, on a disk or at a URL: its files listed, read, written and removed.

Every error of a backend becomes an ``ArchiveError`` in one line, since the libraries behind fsspec
raise errors of their own kinds.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from metahpo.archive.errors import ArchiveError
from metahpo.archive.file_names import SUFFIX, FileName
from metahpo.archive.limits import FILE_BYTES, LEFT_OVER
from metahpo.archive.shown import cause_of, reason_of

# Readers skip names that begin with a dot; so do pandas and Arrow.
_UNFINISHED = re.compile(rf"\.[0-9a-f]{{32}}{re.escape(SUFFIX)}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A Parquet file in the folder.

    Attributes:
        path: Where the backend finds it.
        name: Its name in the folder.
        size: Bytes; None where the listing does not say.
    """

    path: str
    name: str
    size: int | None

    @property
    def parts(self) -> FileName | None:
        """What its name says; None for a name that a user gave."""
        return FileName.parse(self.name)

    @property
    def identity(self) -> str:
        """What files of one task have in common."""
        return self.parts.identity if self.parts else self.name


class Place:
    """A folder at a path or an fsspec URL.

    Args:
        path: A path, or a string with ``://``, which is a URL.

    Raises:
        ArchiveError: For a URL that fsspec cannot open.
        TypeError: For anything but a path or a string.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        text = os.fspath(path)
        if not isinstance(text, str):
            raise TypeError(f"the path of an archive must be a str or a Path, got {path!r}")
        self.path = str(path)
        with self._errors("open"):
            if isinstance(path, str) and "://" in path:
                _check_protocols(path)
                self._files, root = fsspec.url_to_fs(path)
            else:
                # Not through fsspec, which takes the folder "a::b" for "a".
                self._files, root = LocalFileSystem(), _absolute(text)
        self._root: str = root.rstrip("/") or "/"

    def make(self) -> None:
        """Make the folder, unless it exists."""
        with self._errors("write to"):
            self._files.makedirs(self._root, exist_ok=True)

    def entries(self, *, sizes: bool, tidy: bool = False) -> list[Entry]:
        """Return the finished Parquet files in the folder, ordered by name.

        Args:
            sizes: Whether sizes are needed. On a disk each costs a call.
            tidy: Whether to remove what writers that were killed left unfinished, once it is
                older than ``LEFT_OVER``.

        Raises:
            FileNotFoundError: If there is no folder.
            ArchiveError: If it cannot be listed.
        """
        entries: list[Entry] = []
        for path, size in self._listing(sizes=sizes):
            name = posixpath.basename(path)
            if not name.startswith((".", "_")):
                entries.append(Entry(path, name, size))
            elif tidy and _UNFINISHED.fullmatch(name) and self._is_left_over(path):
                self._remove(path)
        return sorted(entries, key=lambda entry: entry.name)

    def read(self, entry: Entry) -> bytes | None:
        """Return a file's content, or None if it no longer exists.

        Raises:
            ArchiveError: If it cannot be read, is not a regular file, or exceeds ``FILE_BYTES``.
        """
        try:
            with self._errors("read from"):
                if self._is_local:
                    return _read_local(entry.path)
                if entry.size == 0:
                    return b""
                _check_size(entry.size or 0)
                end = FILE_BYTES if entry.size is None else entry.size
                content: Any = self._files.cat_file(entry.path, start=0, end=end + 1)
                _check_size(len(content))
                return content
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> Entry:
        """Write a file, which appears under its name as a whole or not at all.

        Raises:
            ArchiveError: If it cannot be written; nothing is left of it then.
        """
        path = posixpath.join(self._root, name)
        with self._errors("write to"):
            if not self._renames():
                # An object store: an object appears once it is complete.
                self._files.pipe_file(path, content)
            else:
                self._write_and_rename(path, content)
        return Entry(path, name, len(content))

    def remove(self, entry: Entry) -> None:
        """Remove a file, if that is possible."""
        self._remove(entry.path)

    # ---- the backend -----------------------------------------------------------------------

    def _listing(self, *, sizes: bool) -> list[tuple[str, int | None]]:
        """Return paths and sizes of the Parquet files, of unfinished ones as well."""
        with self._errors("list"):
            self._files.invalidate_cache(self._root)
            if sizes or not self._is_local:
                infos: list[Any] = self._files.ls(self._root, detail=True)
                found = [(info["name"].rstrip("/"), info.get("size")) for info in infos]
            else:
                # Several times faster than through fsspec.
                names = os.listdir(self._root)  # noqa: PTH208 - fsspec's paths are strings
                found = [(posixpath.join(self._root, name), None) for name in names]
            if [path for path, _ in found] == [self._root]:
                raise NotADirectoryError(f"{self.path} is a file")
        return [(path, size) for path, size in found if path.endswith(SUFFIX)]

    @property
    def _is_local(self) -> bool:
        return isinstance(self._files, LocalFileSystem)

    def _renames(self) -> bool:
        """Whether the backend renames files; object stores copy and delete instead."""
        return type(self._files).mv is not AbstractFileSystem.mv

    def _write_and_rename(self, path: str, content: bytes) -> None:
        temporary = posixpath.join(self._root, f".{uuid.uuid4().hex}{SUFFIX}")
        try:
            self._files.pipe_file(temporary, content)
            self._rename(temporary, path)
        except BaseException:
            self._remove(temporary)
            raise

    def _rename(self, old: str, new: str) -> None:
        if self._is_local:
            os.replace(old, new)  # noqa: PTH105 - fsspec's paths are strings
        else:
            self._files.mv(old, new)

    def _remove(self, path: str) -> None:
        # What another process has removed is gone, and what cannot be removed does no harm:
        # readers skip it. Backends say so by errors of every kind.
        with contextlib.suppress(Exception):
            self._files.rm_file(path)

    def _is_left_over(self, path: str) -> bool:
        # Not every backend knows, and the file may be gone.
        with contextlib.suppress(Exception):
            modified = self._files.modified(path)
            modified = modified if modified.tzinfo else modified.replace(tzinfo=UTC)
            return time.time() - modified.timestamp() > LEFT_OVER
        return False

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Turn every error but that of a missing file into an ``ArchiveError``."""
        try:
            yield
        except FileNotFoundError as error:
            if doing in ("list", "read from"):
                raise
            raise self._error(doing, error) from cause_of(error, self.path)
        # Backends raise OSError, ValueError, TypeError, NotImplementedError, and their own.
        except Exception as error:
            raise self._error(doing, error) from cause_of(error, self.path)

    def _error(self, doing: str, error: Exception) -> ArchiveError:
        why = reason_of(error, self.path)
        return ArchiveError(f"cannot {doing} the archive at {self.path}: {why}", self.path)


def _check_protocols(url: str) -> None:
    # In a chain (simplecache::s3://...), fsspec takes an unknown protocol for a local path.
    known = fsspec.available_protocols()
    for link in url.split("::"):
        protocol, separator, _ = link.partition("://")
        if separator and protocol not in known:
            raise ValueError(f"there is no protocol {protocol!r}")


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - a string for fsspec


def _check_size(size: int) -> None:
    if size > FILE_BYTES:
        raise ValueError(f"it has more than {FILE_BYTES:,} bytes")


def _read_local(path: str) -> bytes:
    """Return the content of a regular file: a pipe or a device may never end.

    Raises:
        ValueError: For another kind of file, or one that exceeds ``FILE_BYTES``.
        OSError: If it cannot be read.
    """
    # Without waiting for somebody to write into a pipe.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        _check_size(os.fstat(file.fileno()).st_size)
        content = file.read(FILE_BYTES + 1)
    _check_size(len(content))
    return content
