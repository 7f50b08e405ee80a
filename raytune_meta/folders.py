"""The folders of Ray Tune's experiments, on a disk or at any fsspec URL: what Ray writes there.

The names of Ray's files and of the entries in its results are in this file alone. Of each trial's
folder three files are opened, all of them text; everything else, pickles included, is left alone.
Ray is not imported.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from metahpo.archive import SourceError, UnrecognisedSourceError

PARAMS, RESULTS, ERRORS = "params.json", "result.json", "error.txt"
# What lies in an experiment's folder before its first trial.
MARKERS = (".validate_storage_marker", "tuner.pkl")
# Between the levels of nested parameters and results.
SEPARATOR = "/"
# Before the names of parameters in a flat result.
CONFIG = "config/"

ITERATION, TIMESTAMP = "training_iteration", "timestamp"
SECONDS, STEP_SECONDS = "time_total_s", "time_this_iter_s"
# The entries that Ray itself adds to each result.
RESULT_KEYS_OF_RAY = {
    ITERATION,
    SECONDS,
    STEP_SECONDS,
    TIMESTAMP,
    "checkpoint_dir_name",
    "date",
    "done",
    "episodes_total",
    "experiment_tag",
    "hostname",
    "iterations_since_restore",
    "node_ip",
    "pid",
    "should_checkpoint",
    "time_since_restore",
    "timesteps_since_restore",
    "timesteps_total",
    "trial_id",
}
# Ray writes the same form of local time into its errors and into its results.
_FAILURE = re.compile(r"\(occurred at (\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)\)")


@dataclass(frozen=True, slots=True)
class TrialFolder:
    """The content of a trial's folder.

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
    """Return a folder read as an experiment's; without trials if it is not one.

    Args:
        path: A local folder or an fsspec URL.

    Raises:
        SourceError: For a URL that cannot be read.
    """
    children = _children(path)
    files = _contents([_join(child, name) for child in children for name in _FILES])
    trials = [TrialFolder(child, *(files.get(_join(child, name)) for name in _FILES))
              for child in children]  # fmt: skip
    found = tuple(t for t in trials if t.params is not None or t.results is not None)
    return ExperimentFolder(path, posixpath.basename(path.rstrip("/")), found)


def read_folders(path: str) -> list[ExperimentFolder]:
    """Return the experiments with trials in a folder of several, sorted by name.

    Args:
        path: A local folder or an fsspec URL.

    Raises:
        SourceError: For a URL that cannot be read.
    """
    return [found for child in _children(path) if (found := read_folder(child)).trials]


def holds_new_experiment(path: str) -> bool:
    """Whether a folder holds one of an experiment that has no trials yet.

    Args:
        path: A local folder or an fsspec URL.

    Raises:
        SourceError: For a URL that cannot be read.
    """
    children = _children(path)
    return bool(_contents([_join(child, name) for child in children for name in MARKERS]))


def failed_since(folder: TrialFolder, result: Mapping[str, Any]) -> bool:
    """Whether a trial failed at or after its last result.

    A trial that was recovered keeps the errors of its former attempts.

    Args:
        folder: The trial's folder.
        result: Its last result, flat; empty if it has none.
    """
    if folder.errors is None:
        return False
    failures, date = _FAILURE.findall(folder.errors.decode(errors="replace")), result.get("date")
    return not failures or not isinstance(date, str) or failures[-1] >= date


_FILES = (PARAMS, RESULTS, ERRORS)


def is_url(path: str) -> bool:
    """Whether a path is an fsspec URL."""
    return "://" in path


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}"


def _children(path: str) -> list[str]:
    """Return the folders in a folder, sorted; none if it does not exist."""
    if not is_url(path):
        folder = Path(path)
        entries = os.scandir(folder) if folder.is_dir() else ()
        return sorted(entry.path for entry in entries if entry.is_dir())
    try:
        files, root = fsspec.url_to_fs(path)
    except (OSError, ValueError, ImportError) as error:
        raise UnrecognisedSourceError(f"{path} is not an fsspec URL: {error}") from error
    try:
        files.invalidate_cache(root)
        found = [entry for entry in files.ls(root, detail=True) if entry["type"] == "directory"]
        return sorted(files.unstrip_protocol(entry["name"].rstrip("/")) for entry in found)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SourceError(f"cannot list {path}: {error}") from error


def _contents(paths: Sequence[str]) -> dict[str, bytes]:
    """Return the contents of those files that exist."""
    if not paths or not is_url(paths[0]):
        return {path: content for path in paths if (content := _read(path)) is not None}
    files, _ = fsspec.url_to_fs(paths[0])
    stripped = {str(files._strip_protocol(path)): path for path in paths}  # noqa: SLF001
    # All at once: object stores take tens of milliseconds per file.
    found = files.cat(list(stripped), on_error="return")
    return {stripped[name]: data for name, data in found.items() if isinstance(data, bytes)}


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a hundred calls: Path costs
            return file.read()
    except OSError:
        return None
