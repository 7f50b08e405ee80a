"""Saving a searcher's state as JSON, atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from metahpo.atomic_file import replaced_whole

FORMAT = 1


def write_state(path: str, state: dict[str, Any]) -> None:
    """Write a state under a temporary name and move it into place."""
    with replaced_whole(Path(path)) as temporary:
        temporary.write_text(json.dumps({"metahpo": FORMAT, **state}), encoding="utf-8")


def read_state(path: str) -> dict[str, Any]:
    """Return the state that ``write_state`` wrote.

    Raises:
        ValueError: For another file, or a state of a newer version.
    """
    try:
        state = json.loads(Path(path).read_text(encoding="utf-8"))
        version = state["metahpo"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a saved state of MetaSearch: {error!r}") from error
    if version > FORMAT:
        raise ValueError(
            f"{path} was saved by a newer version of metahpo (format {version}; this one reads "
            f"up to {FORMAT})"
        )
    return state
