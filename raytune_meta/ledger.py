"""What became of a sweep's trials: all that the searcher remembers, in plain records."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from metahpo.tasks.space import Configuration, Space
from metahpo.tasks.task import Task, Trial, TrialState


@dataclass(frozen=True)
class Record:
    """One trial.

    Attributes:
        configuration: What it was given, flat.
        state: RUNNING, COMPLETE (it ended, whoever ended it) or FAILED.
        reports: The metric by iteration, as reported; NaN where it was no number.
        started: POSIX seconds.
        finished: POSIX seconds.
        decision: Why, as ``Decision.to_json`` gives it.
    """

    configuration: Configuration
    state: TrialState = TrialState.RUNNING
    reports: Mapping[int, float] = field(default_factory=dict)
    started: float | None = None
    finished: float | None = None
    decision: Mapping[str, Any] | None = None

    @property
    def iteration(self) -> int:
        """The last one that reported the metric; 0 before any has."""
        return max(self.reports, default=0)

    @property
    def cost(self) -> float | None:
        """Seconds from its start to its end, where both are known."""
        if self.started is None or self.finished is None:
            return None
        return self.finished - self.started

    @property
    def value(self) -> float | None:
        """The last report, where it is finite and the trial did not fail."""
        if self.state is not TrialState.COMPLETE or not self.reports:
            return None
        last = self.reports[self.iteration]
        return last if math.isfinite(last) else None


class Ledger:
    """The trials of a sweep, in the order in which they were started.

    Attributes:
        ended: How many trials have ended so far, counting one that ended twice twice.
    """

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self.ended = 0

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._records

    def __getitem__(self, trial_id: str) -> Record:
        return self._records[trial_id]

    def __len__(self) -> int:
        return len(self._records)

    @property
    def running(self) -> Iterator[str]:
        """The trials that have not ended."""
        return (i for i, r in self._records.items() if r.state is TrialState.RUNNING)

    def start(self, trial_id: str, record: Record) -> None:
        """A trial begins."""
        self._records[trial_id] = record

    def report(self, trial_id: str, iteration: int | None, value: float) -> None:
        """A running trial reports the metric.

        A recovered trial reports iterations again that it had reported before: from there on, what
        it reports now counts. One that failed and is tried again is running again.

        Args:
            trial_id: Of a trial that was started.
            iteration: None for the next one.
            value: NaN for what is no number.
        """
        record = self._records[trial_id]
        if record.state is TrialState.COMPLETE:
            return
        iteration = record.iteration + 1 if iteration is None else iteration
        reports = {i: v for i, v in record.reports.items() if i < iteration} | {iteration: value}
        self._records[trial_id] = replace(record, reports=reports, state=TrialState.RUNNING)

    def end(self, trial_id: str, finished: float, *, failed: bool) -> None:
        """A trial ends; what it reported last is its value.

        Args:
            trial_id: Of a trial that was started.
            finished: POSIX seconds.
            failed: Whether by an error.
        """
        state = TrialState.FAILED if failed else TrialState.COMPLETE
        self._records[trial_id] = replace(self._records[trial_id], state=state, finished=finished)
        self.ended += 1

    # ---- as a task, as JSON ----------------------------------------------------------------

    def task(
        self,
        name: str,
        space: Space,
        mode: Literal["max", "min"],
        metafeatures: Mapping[str, float],
    ) -> Task:
        """The sweep so far.

        Values are maximised: for ``mode="min"`` their signs are turned here and nowhere else. A
        trial that ended before the longest one counts as pruned; the host does not tell.
        """
        sign = 1.0 if mode == "max" else -1.0
        ended = [r for r in self._records.values() if r.state is TrialState.COMPLETE]
        longest = max((record.iteration for record in ended), default=0)
        trials = tuple(_trial(record, longest, sign) for record in self._records.values())
        return Task(name, space, trials, metafeatures)

    def to_json(self) -> list[dict[str, Any]]:
        """All records, in order."""
        return [
            asdict(r) | {"trial_id": i, "reports": sorted(r.reports.items())}
            for i, r in self._records.items()
        ]

    @classmethod
    def from_json(cls, records: list[dict[str, Any]]) -> Ledger:
        """The ledger that ``to_json`` wrote."""
        ledger = cls()
        for fields in records:
            about = {name: value for name, value in fields.items() if name != "trial_id"}
            about["state"] = TrialState(about["state"])
            about["reports"] = {int(i): float(value) for i, value in about["reports"]}
            ledger._records[fields["trial_id"]] = Record(**about)
        return ledger


def _trial(record: Record, longest: int, sign: float) -> Trial:
    value = record.value
    state = record.state
    if state is TrialState.COMPLETE and value is None:
        state = TrialState.FAILED
    elif state is TrialState.COMPLETE and record.iteration < longest:
        state = TrialState.PRUNED
    return Trial(
        configuration=record.configuration,
        value=None if value is None else sign * value,
        state=state,
        curve=tuple((float(i), sign * record.reports[i]) for i in sorted(record.reports)),
        cost=record.cost,
        started=record.started,
        finished=record.finished,
    )
