"""The folders of Ray Tune's experiments, on a disk or at any fsspec URL: what Ray writes there.

The names of Ray's files and of the entries in its results are in this file alone. Of each trial's
folder three files are opened, all of them text; everything else, pickles included, is left alone.
Ray is not imported.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import fsspec

from metahpo.archive import SourceError, UnrecognisedSourceError
from metahpo.archive.limits import LARGEST_PART, MOST_ENTRIES
from metahpo.archive.shown import cause_of, encodable, reason_of, shown_source
from raytune_meta.budget import Budget

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
        left_out: What could not be read in it, and why.
    """

    path: str
    name: str
    trials: tuple[TrialFolder, ...]
    left_out: tuple[str, ...] = ()


def read_folder(path: str, budget: Budget) -> ExperimentFolder:
    """Return a folder read as an experiment's; without trials if it is not one.

    Args:
        path: A local folder or an fsspec URL.
        budget: What may be read of the source to which the folder belongs.

    Raises:
        SourceError: For a folder or URL that cannot be read.
    """
    children, left_out = _children(path)
    trials: list[TrialFolder] = []
    for number, (child, contents) in enumerate(_contents(children, _FILES, budget)):
        if _SPENT in contents:
            left_out.append(budget.left_out(len(children) - number, len(children)))
            break
        broken = [text for text in contents if isinstance(text, str)]
        whole = [None if isinstance(content, str) else content for content in contents]
        if broken:
            left_out.append(f"trial {posixpath.basename(child)}: {broken[0]}")
        elif whole[0] is not None or whole[1] is not None:
            trials.append(TrialFolder(child, *whole))
    return ExperimentFolder(path, _name(path), tuple(trials), tuple(left_out))


def _name(path: str) -> str:
    """Return the last part of a path or URL, which may be where a URL's password stands."""
    return encodable(posixpath.basename(shown_source(path.rstrip("/"))))


def read_folders(path: str, budget: Budget) -> Iterator[ExperimentFolder]:
    """Yield the experiments with trials in a folder of several, sorted by name.

    Args:
        path: A local folder or an fsspec URL.
        budget: What may be read of all of them together. Once it is spent, the folder itself is
            yielded, without trials, with how many are left out.

    Raises:
        SourceError: For a URL that cannot be read.
    """
    children, _ = _children(path)
    for number, child in enumerate(children):
        if budget.spent:
            left_out = budget.left_out(len(children) - number, len(children))
            yield ExperimentFolder(path, _name(path), (), (left_out,))
            return
        found = read_folder(child, budget)
        if found.trials or found.left_out:
            yield found


def holds_new_experiment(path: str) -> bool:
    """Whether a folder holds one of an experiment that has no trials yet.

    Args:
        path: A local folder or an fsspec URL.

    Raises:
        SourceError: For a URL that cannot be read.
    """
    found = _contents(_children(path)[0], MARKERS, Budget())
    return any(isinstance(content, bytes) for _, contents in found for content in contents)


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
# Concurrent reads at a URL, and folders read at a time.
_READERS, _BATCH = 16, 32


def is_url(path: str) -> bool:
    """Whether a path is an fsspec URL."""
    return "://" in path


# The content of a file, None if there is none, or why it cannot be read.
_Content: TypeAlias = bytes | str | None
_SPENT = "the budget is spent"


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}"


def _children(path: str) -> tuple[list[str], list[str]]:
    """Return the folders in a folder, sorted, and what is left out; none if it does not exist.

    Raises:
        UnrecognisedSourceError: For what is no path and no URL.
        SourceError: For a folder that cannot be listed.
    """
    try:
        found = sorted(_remote_children(path) if is_url(path) else _local_children(path))
    except SourceError:
        raise
    # File systems raise what they like (a port that is no number, a permission, no connection).
    except Exception as error:
        reason = reason_of(error, path)
        raise SourceError(f"cannot list {path}: {reason}", path) from cause_of(error, path)
    rest = len(found) - MOST_ENTRIES
    left_out = [f"{rest:,} folders after the first {MOST_ENTRIES:,}"] if rest > 0 else []
    return found[:MOST_ENTRIES], left_out


def _local_children(path: str) -> list[str]:
    try:
        if not Path(path).is_dir():
            return []
    except (OSError, ValueError) as error:
        raise UnrecognisedSourceError(f"no path: {reason_of(error)}") from error
    with os.scandir(path) as entries:
        return [entry.path for entry in entries if Path(entry.path).is_dir()]


def _remote_children(path: str) -> list[str]:
    files, root = _file_system(path)
    try:
        files.invalidate_cache(root)
        found = [entry for entry in files.ls(root, detail=True) if entry["type"] == "directory"]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [files.unstrip_protocol(entry["name"].rstrip("/")) for entry in found]


def _file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path there.

    Raises:
        UnrecognisedSourceError: For a URL that fsspec cannot open.
    """
    try:
        return fsspec.url_to_fs(url)
    except Exception as error:  # file systems raise what they like
        reason = reason_of(error, url)
        message = f"{url} is not an fsspec URL: {reason}"
        raise UnrecognisedSourceError(message, url) from cause_of(error, url)


def _contents(
    folders: Sequence[str], names: Sequence[str], budget: Budget
) -> Iterator[tuple[str, tuple[_Content, ...]]]:
    """Yield each folder with the contents of these files in it; ``_SPENT`` beyond the budget."""
    if not folders or not is_url(folders[0]):
        for folder in folders:
            paths = [_join(folder, name) for name in names]
            yield folder, tuple(_within(budget, _read_local, path) for path in paths)
        return
    files, _ = _file_system(folders[0])

    def read(path: str) -> _Content:
        return _within(budget, partial(_read_remote, files), path)

    # Many at once: object stores take tens of milliseconds per file.
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(folders), _BATCH):
            batch = folders[start : start + _BATCH]
            contents = list(pool.map(read, [_join(f, name) for f in batch for name in names]))
            for place, folder in enumerate(batch):
                yield folder, tuple(contents[place * len(names) : (place + 1) * len(names)])


def _within(budget: Budget, read: Callable[[str], _Content], path: str) -> _Content:
    # Each file asks: a batch of them may be large.
    if budget.spent:
        return _SPENT
    content = read(path)
    if isinstance(content, bytes):
        budget.spend(len(content))
    return _SPENT if budget.bytes_left < 0 else content


def _read_local(path: str) -> _Content:
    try:
        found = os.stat(path)  # noqa: PTH116 - a hundred calls: Path costs
        if not stat.S_ISREG(found.st_mode):
            return f"{posixpath.basename(path)} is not a regular file"
        with open(path, "rb") as file:  # noqa: PTH123
            return _bounded(file.read, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        return f"{posixpath.basename(path)}: {reason_of(error)}"


def _read_remote(files: Any, path: str) -> _Content:
    try:
        with files.open(path, "rb") as file:
            return _bounded(file.read, path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except Exception as error:  # file systems raise what they like
        return f"{posixpath.basename(path)}: {reason_of(error, path)}"


def _bounded(read: Callable[[int], bytes], path: str) -> bytes | str:
    content = read(LARGEST_PART + 1)
    if len(content) > LARGEST_PART:
        return f"{posixpath.basename(path)} has more than {LARGEST_PART:,} bytes"
    return content
