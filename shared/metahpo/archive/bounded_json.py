"""JSON texts of somebody else's, within limits."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from metahpo.archive.limits import DEEPEST, LONGEST_TEXT


def parse_json(text: str | bytes, longest: int = LONGEST_TEXT) -> Any:
    """Return what a JSON text holds.

    Args:
        text: The text.
        longest: How many characters, or bytes, are read.

    Raises:
        ValueError: For what is not JSON, longer, or nested deeper than ``DEEPEST``.
    """
    if not isinstance(text, str | bytes):
        raise ValueError(f"{type(text).__name__} in place of a JSON text")
    if len(text) > longest:
        raise ValueError(f"a text of {len(text):,} characters, {longest:,} are read")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Raise ValueError for lists and mappings nested deeper than ``DEEPEST``."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
