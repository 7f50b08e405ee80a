"""Journal files of Optuna's, read line by line.

Optuna's own reader replays the whole file and fails at the first line that it cannot apply. This
one skips such lines, which costs the trial that they belong to. It takes no lock and writes
nothing.

A line is an operation; studies and trials are numbered in the order in which they were created,
and later lines refer to these numbers. A line that is no JSON may have created one: where even
that is unknown, the numbers after it are, too, and what was created later is left out.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeAlias

from optuna.study import StudyDirection
from optuna.trial import TrialState

from metahpo.archive import SourceError
from metahpo.archive.limits import LARGEST_FILE, LONGEST_READ, LONGEST_TEXT, MOST_ROWS
from metahpo.archive.shown import reason_of
from optuna_meta.constraints import LISTED, constraints_among
from optuna_meta.sqlite_file import check_size
from optuna_meta.stored_study import (
    StoredStudy,
    StoredTrial,
    checked_number,
    checked_step,
    put_param,
    short,
    study_name,
)

_Log: TypeAlias = dict[str, Any]
_OPERATION = re.compile(rb'"op_code"\s*:\s*(\d{1,2})\b')
_TRIAL = re.compile(rb'"trial_id"\s*:\s*(\d{1,12})\b')
_START = b'{"op_code"'
_BROKEN = "a line of the journal is broken"
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class _Op(IntEnum):
    """What a line does, by Optuna's numbers; others set what is not read here."""

    CREATE_STUDY = 0
    DELETE_STUDY = 1
    STUDY_NOTE = 2
    STUDY_ATTRIBUTE = 3
    CREATE_TRIAL = 4
    PARAM = 5
    STATE = 6
    REPORT = 7
    TRIAL_NOTE = 8
    TRIAL_ATTRIBUTE = 9


_READ_HERE = {int(op) for op in _Op}
# User attributes: nothing is learned from them, so that a broken one costs nothing.
_NOTES = (_Op.STUDY_NOTE, _Op.TRIAL_NOTE)


def read_journal(
    path: Path, attribute: str, *, user_attributes: bool = False
) -> tuple[list[StoredStudy], str]:
    """Return the studies of a journal file, in the order in which they were created.

    Args:
        path: The file.
        attribute: The key of the system attribute to read with each study.
        user_attributes: Whether to read those of studies and trials.

    Returns:
        The studies, and what was left out of the file as a whole, empty if nothing was.

    Raises:
        SourceError: For a file that cannot be read or is too large.
    """
    replay = _Replay(attribute, user_attributes)
    end = time.monotonic() + LONGEST_READ
    name = str(path)
    check_size(path, name)
    try:
        for number, line in enumerate(_lines(path), start=1):
            if number > MOST_ROWS:
                replay.left_out = f"the lines from {number:,} on: {MOST_ROWS:,} are read"
                break
            if number % 1000 == 0 and time.monotonic() > end:
                replay.left_out = f"the lines from {number:,} on: it takes too long"
                break
            replay.apply_line(number, line)
    except OSError as error:
        raise SourceError(f"cannot read {name}: {reason_of(error)}") from error
    return replay.finished(), replay.note


def _lines(path: Path) -> Iterator[bytes]:
    """Yield complete lines, of long ones the start; a writer may be at work on the last one."""
    read = 0
    with path.open("rb") as file:
        while line := file.readline(LONGEST_TEXT):
            read += len(line)
            while line and not line.endswith(b"\n"):
                rest = file.readline(LONGEST_TEXT)
                read += len(rest)
                if not rest or read > LARGEST_FILE:
                    return
                if rest.endswith(b"\n"):
                    line = line[:1000] + b"...\n"
            yield line


class _Replay:
    """The studies and trials after some lines.

    Args:
        attribute: The key of the system attribute to read with each study.
        user_attributes: Whether to read those of studies and trials.
    """

    def __init__(self, attribute: str, user_attributes: bool) -> None:
        self.left_out = ""
        self._attribute, self._reads_notes = attribute, user_attributes
        # None for one that was deleted, and for a trial whose line is broken.
        self._studies: list[StoredStudy | None] = []
        self._trials: list[tuple[StoredStudy, StoredTrial] | None] = []
        self._names: set[str] = set()
        self._broken_lines: list[int] = []
        # Since a line that may have created a study or a trial.
        self._studies_unknown = self._trials_unknown = False
        self._apply: dict[int, Callable[[_Log], None]] = {
            _Op.CREATE_STUDY: self._create_study,
            _Op.DELETE_STUDY: self._delete_study,
            _Op.STUDY_ATTRIBUTE: self._set_attribute,
            _Op.CREATE_TRIAL: self._create_trial,
            _Op.PARAM: self._set_param,
            _Op.STATE: self._set_state,
            _Op.REPORT: self._report,
            _Op.TRIAL_ATTRIBUTE: self._set_trial_attribute,
            _Op.STUDY_NOTE: self._note_study,
            _Op.TRIAL_NOTE: self._note_trial,
        }

    def finished(self) -> list[StoredStudy]:
        """Return the studies, without broken trials."""
        studies = [study for study in self._studies if study is not None]
        for study in studies:
            study.leave_out_broken_trials()
        return studies

    @property
    def note(self) -> str:
        """What was left out of the file as a whole."""
        notes = [self.left_out] if self.left_out else []
        if self._broken_lines:
            count = len(self._broken_lines)
            lines = "1 broken line" if count == 1 else f"{count} broken lines"
            notes.append(f"{lines}, the first is line {self._broken_lines[0]}")
        if self._studies_unknown or self._trials_unknown:
            notes.append("what was created after it: it may have changed all later numbers")
        return "; ".join(notes)

    def apply_line(self, number: int, line: bytes) -> None:
        """Apply a line, or note that it is broken."""
        log = _parsed(line)
        if log is None:
            self._apply_broken(number, line)
            return
        op = log.get("op_code")
        if isinstance(op, bool) or not isinstance(op, int) or not 0 <= op <= 10:
            self._broken_lines.append(number)
            self._studies_unknown = self._trials_unknown = True
            self._break_running()
        elif op in _READ_HERE:
            try:
                self._apply[op](log)
            # A key is missing, or a value of another type.
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                if op in _NOTES:
                    return
                self._broken_lines.append(number)
                self._break(op, log.get("trial_id"))

    def _apply_broken(self, number: int, line: bytes) -> None:
        """Apply a line that is no JSON, as far as it shows what it was."""
        ops = [int(op) for op in _OPERATION.findall(line)]
        if len(ops) == 1 and (ops[0] not in _READ_HERE or ops[0] in _NOTES):
            return
        if ops == [_Op.TRIAL_ATTRIBUTE] and LISTED.encode() not in line:
            return
        self._broken_lines.append(number)
        if len(ops) != 1:
            self._studies_unknown = self._trials_unknown = True
            self._break_running()
            return
        trial = _TRIAL.search(line)
        self._break(ops[0], int(trial[1]) if trial else None)

    def _break(self, op: int, trial: Any) -> None:
        """Break what a line belongs to, and count what it created."""
        if op == _Op.CREATE_STUDY:
            name = f"study {len(self._studies)}"
            self._add_study(StoredStudy(name, broken="its line is broken"))
        elif op == _Op.CREATE_TRIAL:
            self._add_trial(None)
        elif isinstance(trial, int) and 0 <= trial < len(self._trials):
            if found := self._trials[trial]:
                found[1].broken = _BROKEN
        elif op in (_Op.PARAM, _Op.STATE, _Op.REPORT, _Op.TRIAL_ATTRIBUTE):
            self._break_running()

    def _break_running(self) -> None:
        """Break the trials that a line may have belonged to."""
        for found in self._trials:
            if found and found[1].state is TrialState.RUNNING:
                found[1].broken = _BROKEN

    # ---- numbers ---------------------------------------------------------------------------

    def _add_study(self, study: StoredStudy | None) -> None:
        self._studies.append(None if self._studies_unknown else study)

    def _add_trial(self, found: tuple[StoredStudy, StoredTrial] | None) -> None:
        self._trials.append(None if self._trials_unknown else found)
        if found and not self._trials_unknown:
            found[0].trials.append(found[1])

    def _study(self, log: _Log) -> StoredStudy | None:
        number = _index(log["study_id"])
        return self._studies[number] if number < len(self._studies) else None

    def _open_trial(self, log: _Log) -> tuple[StoredStudy, StoredTrial] | None:
        """Return the trial of a line; None for one that does not exist or has ended."""
        number = _index(log["trial_id"])
        found = self._trials[number] if number < len(self._trials) else None
        return None if found is None or found[1].state in _ENDED else found

    # ---- operations ------------------------------------------------------------------------

    def _create_study(self, log: _Log) -> None:
        name = study_name(log["study_name"])
        directions = [StudyDirection(direction) for direction in log["directions"]]
        # Of two workers that create a study at once, the second finds it there.
        if name in self._names:
            return
        self._names.add(name)
        self._add_study(StoredStudy(name, directions))

    def _delete_study(self, log: _Log) -> None:
        if study := self._study(log):
            self._studies[log["study_id"]] = None
            self._names.discard(study.name)

    def _set_attribute(self, log: _Log) -> None:
        attributes = log["system_attr"]
        if self._attribute in attributes and (study := self._study(log)):
            study.attribute = attributes[self._attribute]

    def _create_trial(self, log: _Log) -> None:
        study = self._study(log)
        if study is None:
            return
        trial = StoredTrial(
            TrialState(log.get("state", TrialState.RUNNING)),
            _moment(log["datetime_start"]),
            _moment(log.get("datetime_complete")),
        )
        self._add_trial((study, trial))
        try:
            self._fill(study, trial, log)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            trial.broken = f"{type(error).__name__}: {error}"

    def _fill(self, study: StoredStudy, trial: StoredTrial, log: _Log) -> None:
        """Set what ``study.add_trial`` and ``enqueue_trial`` give a trial from the start."""
        distributions = log.get("distributions", {})
        for name, internal in log.get("params", {}).items():
            put_param(study, trial, name, internal, distributions[name])
        for step, value in log.get("intermediate_values", {}).items():
            trial.reports[checked_step(int(step))] = checked_number(value)
        _set_value(trial, log.get("values"), log.get("value"))
        trial.constraints |= constraints_among(log.get("system_attrs", {}))
        if self._reads_notes:
            trial.user_attributes |= log.get("user_attrs", {})

    def _set_param(self, log: _Log) -> None:
        if found := self._open_trial(log):
            internal, text = log["param_value_internal"], log["distribution"]
            put_param(*found, log["param_name"], internal, text)

    def _set_state(self, log: _Log) -> None:
        found = self._open_trial(log)
        if not found:
            return
        trial, state = found[1], TrialState(log["state"])
        # Of two workers that take a waiting trial, the second is late.
        if state is TrialState.RUNNING and trial.state is TrialState.RUNNING:
            return
        if state is TrialState.RUNNING:
            trial.started = _moment(log["datetime_start"])
        if state in _ENDED:
            trial.finished = _moment(log["datetime_complete"])
        _set_value(trial, log["values"], None)
        trial.state = state

    def _report(self, log: _Log) -> None:
        if found := self._open_trial(log):
            found[1].reports[checked_step(log["step"])] = checked_number(log["intermediate_value"])

    def _note_study(self, log: _Log) -> None:
        if self._reads_notes and (study := self._study(log)):
            study.user_attributes |= log["user_attr"]

    def _note_trial(self, log: _Log) -> None:
        if self._reads_notes and (found := self._open_trial(log)):
            found[1].user_attributes |= log["user_attr"]

    def _set_trial_attribute(self, log: _Log) -> None:
        if found := self._open_trial(log):
            found[1].constraints |= constraints_among(log["system_attr"])


def _parsed(line: bytes) -> _Log | None:
    """Return the operation in a line; None for a broken one.

    Where a killed writer left half a line, the next writer's follows it without a break.
    """
    for start in dict.fromkeys((0, max(line.rfind(_START), 0))):
        try:
            log = json.loads(line[start:])
        except (ValueError, RecursionError):
            continue
        return log if isinstance(log, dict) else None
    return None


def _index(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"{short(number)} is no number of a study or trial")
    return number


def _set_value(trial: StoredTrial, values: Any, value: Any) -> None:
    if values:
        trial.value = checked_number(values[0])
    elif value is not None:
        trial.value = checked_number(value)


def _moment(text: Any) -> datetime | None:
    """Return a moment in UTC, without its time zone; one that has none is local."""
    if text is None:
        return None
    return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
