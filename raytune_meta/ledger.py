"""The trials of a sweep so far: all that the searcher remembers of them, in plain records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from metahpo.suggest.decision_record import DecisionRecord
from metahpo.tasks.space import Configuration, Space
from metahpo.tasks.task import Task, TrialState
from raytune_meta.reported_trial import ReportedTrial, as_trials


@dataclass(frozen=True)
class SweepTrial:
    """One trial of the sweep.

    Attributes:
        configuration: Its parameters, flat.
        state: RUNNING, COMPLETE (it ended, by itself or stopped) or FAILED.
        reports: The metric by iteration, as reported; NaN where it was not a number.
        started: POSIX seconds.
        finished: POSIX seconds.
        decision: Why this configuration; None where ``MetaSearch`` did not decide it.
        constraints: The last report of each constraint, by name.
    """

    configuration: Configuration
    state: TrialState = TrialState.RUNNING
    reports: Mapping[int, float] = field(default_factory=dict)
    started: float | None = None
    finished: float | None = None
    decision: DecisionRecord | None = None
    constraints: Mapping[str, float] = field(default_factory=dict)

    @property
    def iteration(self) -> int:
        """The last one that reported the metric; 0 before any has."""
        return max(self.reports, default=0)

    def as_reported(self) -> ReportedTrial:
        """Return what it reported."""
        started, finished = self.started, self.finished
        cost = None if started is None or finished is None else finished - started
        return ReportedTrial(
            self.configuration,
            self.state,
            self.reports,
            self.iteration,
            cost,
            started,
            finished,
            self.constraints,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the trial as what JSON can hold."""
        # Not ``asdict``, which copies all that is in it and takes most of the time of saving.
        decision = None if self.decision is None else self.decision.to_json()
        shallow = {own.name: getattr(self, own.name) for own in fields(self)}
        return shallow | {"reports": sorted(self.reports.items()), "decision": decision}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> SweepTrial:
        """Return the trial that ``to_json`` described."""
        decision = fields["decision"]
        return cls(
            fields["configuration"],
            TrialState(fields["state"]),
            {int(iteration): float(value) for iteration, value in fields["reports"]},
            fields["started"],
            fields["finished"],
            None if decision is None else DecisionRecord.from_json(decision),
            # Sweeps saved before there were constraints have none.
            {name: float(value) for name, value in fields.get("constraints", {}).items()},
        )


class Ledger:
    """The trials of a sweep, in the order in which they were started.

    Args:
        trials: By identifier.
        ended: How many trials have ended so far; one that ended twice counts twice.
    """

    def __init__(self, trials: Mapping[str, SweepTrial] | None = None, ended: int = 0) -> None:
        self._trials = dict(trials or {})
        self._constraints = {name for t in self._trials.values() for name in t.constraints}
        self.ended = ended

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._trials

    def __getitem__(self, trial_id: str) -> SweepTrial:
        return self._trials[trial_id]

    def __len__(self) -> int:
        return len(self._trials)

    @property
    def running(self) -> Iterator[str]:
        """Identifiers of the trials that have not ended."""
        return (i for i, t in self._trials.items() if t.state is TrialState.RUNNING)

    @property
    def constraints(self) -> set[str]:
        """Names of the constraints that trials have reported."""
        return self._constraints

    def start(self, trial_id: str, trial: SweepTrial) -> None:
        """Add a trial that begins."""
        self._trials[trial_id] = trial
        self._constraints.update(trial.constraints)

    def report(self, trial_id: str, iteration: int | None, value: float) -> None:
        """Add a running trial's report of the metric.

        A recovered trial reports iterations again: the new reports replace the former ones from
        there on. A failed trial that reports again is running again.

        Args:
            trial_id: Identifier of a trial that was started.
            iteration: None for the next one.
            value: NaN for what is not a number.
        """
        trial = self._trials[trial_id]
        if trial.state is TrialState.COMPLETE:
            return
        iteration = trial.iteration + 1 if iteration is None else iteration
        reports = {i: v for i, v in trial.reports.items() if i < iteration} | {iteration: value}
        self._trials[trial_id] = replace(trial, reports=reports, state=TrialState.RUNNING)

    def constrain(self, trial_id: str, constraints: Mapping[str, float]) -> None:
        """Add a running trial's report of constraints; the last report of each counts.

        Args:
            trial_id: Identifier of a trial that was started.
            constraints: Numbers by name; NaN for what is not a number.
        """
        trial = self._trials[trial_id]
        if constraints and trial.state is not TrialState.COMPLETE:
            self._constraints.update(constraints)
            both = {**trial.constraints, **constraints}
            self._trials[trial_id] = replace(trial, constraints=both)

    def end(self, trial_id: str, finished: float, *, failed: bool) -> None:
        """End a trial; its last report is its value.

        Args:
            trial_id: Identifier of a trial that was started.
            finished: POSIX seconds.
            failed: Whether it ended with an error.
        """
        state = TrialState.FAILED if failed else TrialState.COMPLETE
        self._trials[trial_id] = replace(self._trials[trial_id], state=state, finished=finished)
        self.ended += 1

    # ---- as a task, as JSON ----------------------------------------------------------------

    def task(
        self, name: str, space: Space, mode: str | None, metafeatures: Mapping[str, float]
    ) -> Task:
        """Return the sweep so far.

        Args:
            name: The task's name.
            space: The search space.
            mode: Whether the metric is maximised or minimised.
            metafeatures: The task's meta-features.
        """
        reported = [trial.as_reported() for trial in self._trials.values()]
        return Task(name, space, as_trials(reported, mode), metafeatures)

    def to_json(self) -> dict[str, Any]:
        """Return the ledger as what JSON can hold."""
        trials = [trial.to_json() | {"trial_id": i} for i, trial in self._trials.items()]
        return {"ended": self.ended, "trials": trials}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Ledger:
        """Return the ledger that ``to_json`` described."""
        trials = {fields["trial_id"]: SweepTrial.from_json(fields) for fields in record["trials"]}
        return cls(trials, record["ended"])
