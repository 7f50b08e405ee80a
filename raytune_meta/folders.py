"""The folders of Ray Tune's experiments, on a disk or at any URL that fsspec knows.

Reads bytes and gives them no meaning. Of each trial's folder three files are opened, all of them
text; what else lies there, pickles among it, is left alone.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec

from metahpo.archive import SourceError

PARAMS, RESULTS, ERRORS = "params.json", "result.json", "error.txt"


@dataclass(frozen=True, slots=True)
class TrialFolder:
    """What a trial's folder holds.

    Attributes:
        path: The folder's path or URL.
        params: The content of ``params.json``; None without such a file.
        results: The content of ``result.json``; the file comes with the first report.
        errors: The content of ``error.txt``.
    """

    path: str
    params: bytes | None
    results: bytes | None
    errors: bytes | None


@dataclass(frozen=True, slots=True)
class ExperimentFolder:
    """The folder of one experiment.

    Attributes:
        path: The folder's path or URL.
        name: Its last part.
        trials: Its trials' folders, sorted by name.
    """

    path: str
    name: str
    trials: tuple[TrialFolder, ...]


def read_folder(path: str) -> ExperimentFolder:
    """A folder taken for an experiment's; without trials where it is none.

    Args:
        path: A local folder or a URL that fsspec knows.

    Raises:
        SourceError: For a URL that cannot be read.
    """
    children = _children(path)
    files = _contents([_join(child, name) for child in children for name in _FILES])
    trials = [TrialFolder(child, *(files.get(_join(child, name)) for name in _FILES))
              for child in children]  # fmt: skip
    told = tuple(t for t in trials if t.params is not None or t.results is not None)
    return ExperimentFolder(path, posixpath.basename(path.rstrip("/")), told)


def read_folders(path: str) -> list[ExperimentFolder]:
    """The experiments in a folder of several, sorted by name.

    Args:
        path: A local folder or a URL that fsspec knows.

    Raises:
        SourceError: For a URL that cannot be read.
    """
    return [found for child in _children(path) if (found := read_folder(child)).trials]


_FILES = (PARAMS, RESULTS, ERRORS)


def is_url(path: str) -> bool:
    """Whether fsspec is asked for it."""
    return "://" in path


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}"


def _children(path: str) -> list[str]:
    """The folders in a folder, sorted; none where there is no such folder."""
    if not is_url(path):
        folder = Path(path)
        entries = os.scandir(folder) if folder.is_dir() else ()
        return sorted(entry.path for entry in entries if entry.is_dir())
    try:
        files, root = fsspec.url_to_fs(path)
        files.invalidate_cache(root)
        found = [entry for entry in files.ls(root, detail=True) if entry["type"] == "directory"]
        return sorted(files.unstrip_protocol(entry["name"].rstrip("/")) for entry in found)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError, ImportError) as error:
        raise SourceError(f"cannot list {path}: {error}") from error


def _contents(paths: Sequence[str]) -> dict[str, bytes]:
    """The contents of those of the files that are there."""
    if not paths or not is_url(paths[0]):
        return {path: content for path in paths if (content := _read(path)) is not None}
    files, _ = fsspec.url_to_fs(paths[0])
    stripped = {str(files._strip_protocol(path)): path for path in paths}
    # All at once: object stores take tens of milliseconds a file.
    found = files.cat(list(stripped), on_error="return")
    return {stripped[name]: data for name, data in found.items() if isinstance(data, bytes)}


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a hundred times a call: paths cost
            return file.read()
    except OSError:
        return None
