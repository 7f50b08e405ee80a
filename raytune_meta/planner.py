"""Making suggestions before they are asked for.

``suggest`` blocks Ray's whole controller, so that one suggestion is always under way in a thread
while trials run in parallel. It is made with all results that are known when it is begun, and
the trials that run then count as pending. By the time it is asked for, a result or two may have
come in; it is thrown away when as many have come as trials run at a time: by then all that was
pending has ended. A sweep that runs one trial at a time uses every result at once and plans
nothing ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

from metahpo.suggest.decision import Decision
from metahpo.tasks.space import Configuration

Planned: TypeAlias = tuple[dict[str, Any], dict[str, Any]]
Make: TypeAlias = Callable[[], Decision]

# One for all searchers of a process: the policy is not faster in two threads.
_executor = ThreadPoolExecutor(1, thread_name_prefix="metahpo")


@dataclass
class Plan:
    """Suggestions that are ready, or under way.

    Attributes:
        ready: Configurations with their decisions' records, in order.
        ended: How many trials had ended when they were begun.
    """

    ready: list[Planned]
    ended: int = 0
    _future: Future[Decision] | None = None

    def __getstate__(self) -> dict[str, Any]:
        self.settle()
        return {"ready": self.ready, "ended": self.ended, "_future": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def begin(self, make: Make, ended: int) -> None:
        """Starts making a suggestion, unless there is one."""
        if not self.ready and self._future is None:
            self._future = _executor.submit(make)
            self.ended = ended

    def take(self, make: Make, ended: int, parallel: int) -> Planned:
        """The next suggestion; made now where none is ready that still holds.

        Args:
            make: Makes one or several.
            ended: How many trials have ended by now.
            parallel: How many run at a time.
        """
        if ended - self.ended >= parallel:
            self.drop()
        self.settle()
        if not self.ready:
            self.ready = planned(make())
            self.ended = ended
        return self.ready.pop(0)

    def settle(self) -> None:
        """Waits for what is under way."""
        if self._future is not None:
            future, self._future = self._future, None
            self.ready += planned(future.result())

    def drop(self) -> None:
        """Forgets what was planned."""
        if self._future is not None:
            self._future.cancel()
        self._future, self.ready = None, []


def planned(decision: Decision) -> list[Planned]:
    """A decision's configurations, each with the record of the decision.

    What was predicted is the value of the first of them alone.
    """
    record = decision.to_json()
    unpredicted = record | {"mean": None, "deviation": None}
    return [
        (_plain(configuration), unpredicted if number else record)
        for number, configuration in enumerate(decision.configurations)
    ]


def _plain(configuration: Configuration) -> dict[str, Any]:
    return dict(configuration)
