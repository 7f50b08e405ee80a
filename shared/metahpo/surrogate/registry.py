"""Surrogates by name: what ``MetaSampler(surrogate=...)`` and ``MetaSearch(surrogate=...)`` take.

Importing this is quick: a family, and torch with it, is imported when it is first used.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metahpo.surrogate.contract import SurrogateFamily

DEFAULT = "neural"

_families: dict[str, Callable[[], SurrogateFamily]] = {}


def register_surrogate(name: str, load: Callable[[], SurrogateFamily]) -> None:
    """Make a family of surrogates available under a name.

    Args:
        name: What users pass as ``surrogate=``.
        load: Makes the family; called once in a process, when a study first needs it. Worker
            processes must register it, too.

    Raises:
        ValueError: For a name that is taken.
    """
    if name in _families:
        raise ValueError(f"there is a surrogate called {name!r} already")
    _families[name] = cache(load)


def surrogate_names() -> tuple[str, ...]:
    """The registered names, the default first."""
    return tuple(_families)


def checked_surrogate(given: str | os.PathLike[str]) -> str:
    """The name or path that a user gave.

    Raises:
        TypeError: For what is neither a name nor a path.
        FileNotFoundError: For a path where there is no file.
    """
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"surrogate must be a name or a file of weights, got {given!r}")
    name = os.fspath(given)
    if name not in _families and not Path(name).is_file():
        raise FileNotFoundError(
            f"surrogate must be one of {', '.join(_families)} or a file of weights as "
            f"`metahpo train surrogate` makes them, got {name!r}"
        )
    return name


def surrogate_family(name: str) -> SurrogateFamily:
    """The family of a name, or of a file of the pretrained network's weights.

    Raises:
        WeightsError: There are no such weights, or the file holds others.
        OSError: The file cannot be read.
    """
    if name in _families:
        return _families[name]()
    from metahpo.surrogate.pretrained_family import pretrained_family

    return pretrained_family(Path(name))


def _neural() -> SurrogateFamily:
    from metahpo.surrogate.pretrained_family import pretrained_family

    return pretrained_family()


def _gaussian() -> SurrogateFamily:
    from metahpo.surrogate.gp.gp_family import GaussianFamily

    return GaussianFamily()


# Not kept here: the weights' file may change, and ``pretrained_family`` looks.
_families[DEFAULT] = _neural
register_surrogate("gp", _gaussian)
