"""Results that are costly to compute and always the same, kept under ``.cache/``."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

CACHE = Path(__file__).parents[1] / ".cache" / "benchmarks"

T = TypeVar("T")


def cached_json(name: str, compute: Callable[[], Any]) -> Any:
    """Return what ``compute`` returned when ``name`` was first requested, as JSON."""
    path = CACHE / name
    if not path.exists():
        _replace(path, json.dumps(compute()).encode())
    return json.loads(path.read_text())


def cached_pickle(name: str, compute: Callable[[], T]) -> T:
    """The same for any object. Pickles are only ever read from the project's own cache."""
    path = CACHE / name
    if not path.exists():
        _replace(path, pickle.dumps(compute()))
    return pickle.loads(path.read_bytes())


def _replace(path: Path, content: bytes) -> None:
    """Write under another name and move into place: processes may race."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
