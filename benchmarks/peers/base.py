"""The contract of a compared method: ask for a configuration, tell its value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.problems import Problem
from metahpo.tasks.space import Configuration
from metahpo.tasks.task import Task


class NotInstalledError(ImportError):
    """A peer's package is not installed; the message says how to install it."""


class Peer(Protocol):
    """One study of one method, one trial at a time: ask, evaluate, tell."""

    def ask(self) -> dict[str, Any]:
        """Return the next configuration, without inactive hyperparameters."""
        ...

    def tell(self, configuration: Configuration, value: float) -> None:
        """Record the value of a configuration, larger is better; it need not come from ``ask``.

        A method may pass over one that it did not ask for and has no place for.
        """
        ...

    def close(self) -> None:
        """Release files and processes."""
        ...


# From the problem, the history, the seed and the number of trials to come.
Setup = Callable[[Problem, Sequence[Task], int, int], Peer]


@dataclass(frozen=True)
class Method:
    """How a method is made, and what it depends on.

    Attributes:
        setup: Makes it ready for a study.
        package: The distribution whose version is of interest.
        learns: Whether it uses the history; what does not need not be run for each.
        applies: Whether the method can work on a problem, and is a method of its own there.
        available: Raises ``NotInstalledError`` where its package is missing.
    """

    setup: Setup
    package: str
    learns: bool = False
    applies: Callable[[Problem], bool] = lambda problem: True
    available: Callable[[], None] = lambda: None
