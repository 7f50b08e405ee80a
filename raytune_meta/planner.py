"""Preparing suggestions ahead of time.

``suggest`` blocks Ray's whole controller, so that one suggestion is always being made in a thread
while trials run in parallel. It uses all results that are there when it begins, and the trials
that run then count as pending. By the time Ray requests it, a result or two may have come in; it
is discarded when as many have come as trials run at a time: by then all that was pending has
ended. A sweep that runs one trial at a time uses every result and prepares nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from metahpo.settings import PolicySettings
from metahpo.suggest.decision_record import DecisionRecord, record_of
from metahpo.suggest.plugin import report_failure, suggest
from metahpo.tasks.task import Task

_logger = logging.getLogger(__name__)

# A configuration, flat, and why.
Suggestion: TypeAlias = tuple[dict[str, Any], DecisionRecord]
Make: TypeAlias = Callable[[], list[Suggestion]]

# One for all searchers of a process: two threads would not make the policy faster.
_executor = ThreadPoolExecutor(1, thread_name_prefix="metahpo")


def make_suggestions(
    task: Task,
    history: Sequence[Task],
    count: int,
    seed: int,
    surrogate: str,
    settings: PolicySettings,
    sign: float,
    failed_before: set[str],
    fixed: Mapping[str, Any] | None = None,
) -> list[Suggestion]:
    """Return the policy's configurations, each with why.

    Args:
        task: The sweep so far.
        history: Past tasks.
        count: Number of configurations.
        seed: Seed of everything random.
        surrogate: As in ``metahpo.suggest.policy.suggest``.
        settings: As in ``metahpo.suggest.policy.suggest``.
        sign: 1 if the metric is maximised, -1 if it is minimised.
        failed_before: The sweeps with a warning so far, as ``report_failure`` keeps them.
        fixed: As in ``metahpo.suggest.policy.suggest``.
    """
    decision = suggest(
        task,
        history,
        count=count,
        seed=seed,
        define_by_run=False,
        surrogate=surrogate,
        settings=settings,
        fixed=fixed,
        on_failure=lambda error: report_failure(error, "Sweep", failed_before, _logger),
    )
    return [
        (dict(configuration), record_of(decision, sign, position))
        for position, configuration in enumerate(decision.configurations)
    ]


@dataclass
class Plan:
    """Suggestions that are ready, or being made.

    Attributes:
        ready: In order.
        ended: How many trials had ended when they were begun.
    """

    ready: list[Suggestion] = field(default_factory=list)
    ended: int = 0
    _future: Future[list[Suggestion]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        self.settle()
        return {"ready": self.ready, "ended": self.ended, "_future": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def begin(self, make: Make, ended: int) -> None:
        """Start making a suggestion, unless there is one."""
        if not self.ready and self._future is None:
            self._future = _executor.submit(make)
            self.ended = ended

    def take(self, make: Make, ended: int, parallel: int) -> Suggestion:
        """Return the next suggestion; make it now where none is ready or it is too old.

        Args:
            make: Makes one or several.
            ended: How many trials have ended by now.
            parallel: How many run at a time.
        """
        if ended - self.ended >= parallel:
            self.drop()
        self.settle()
        if not self.ready:
            self.ready = make()
            self.ended = ended
        return self.ready.pop(0)

    def settle(self) -> None:
        """Wait for the suggestion that is being made."""
        if self._future is not None:
            future, self._future = self._future, None
            self.ready += future.result()

    def drop(self) -> None:
        """Discard all suggestions."""
        if self._future is not None:
            self._future.cancel()
        self._future, self.ready = None, []

    def to_json(self) -> dict[str, Any]:
        """Return the plan as what JSON can hold, once it has settled."""
        self.settle()
        ready = [[configuration, record.to_json()] for configuration, record in self.ready]
        return {"ready": ready, "ended": self.ended}

    @classmethod
    def from_json(cls, plan: dict[str, Any]) -> Plan:
        """Return the plan that ``to_json`` described."""
        ready = [(c, DecisionRecord.from_json(record)) for c, record in plan["ready"]]
        return cls(ready, plan["ended"])
