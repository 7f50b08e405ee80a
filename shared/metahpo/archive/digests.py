"""Digests of tasks and of their parts."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# Hexadecimal digits of a digest.
DIGITS = 12


def digest(data: Any) -> str:
    """Return hexadecimal digits that differ for data that differs as JSON."""
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:DIGITS]
