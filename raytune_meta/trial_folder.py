"""A trial's folder, as Ray Tune writes it, as a ``ReportedTrial``."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from metahpo.archive import SourceWarning
from metahpo.tasks.task import TrialState
from raytune_meta.folders import (
    ITERATION,
    PARAMS,
    RESULT_KEYS_OF_RAY,
    RESULTS,
    SECONDS,
    SEPARATOR,
    STEP_SECONDS,
    TIMESTAMP,
    TrialFolder,
    failed_since,
)
from raytune_meta.reported_trial import ReportedTrial, reported_constraints

_MISSING = object()


@dataclass(slots=True)
class _Reports:
    """The lines of a trial's results, read so far.

    Attributes:
        values: The metric by iteration, as reported; NaN where it was not a number.
        iterations: The last iteration, whether or not it reported the metric.
        cost: Seconds, where reported.
        started: POSIX seconds, where reported.
        finished: POSIX seconds, where reported.
        constraints: The last report of each constraint.
    """

    values: dict[int, float] = field(default_factory=dict)
    iterations: int = 0
    cost: float | None = None
    started: float | None = None
    finished: float | None = None
    constraints: dict[str, float] = field(default_factory=dict)


def read_trial(
    folder: TrialFolder, metric: str, constraints: Sequence[str] = ()
) -> ReportedTrial | None:
    """Return the trial in a folder; None, with a warning, where its parameters are broken.

    Of an iteration that was reported again after a recovery, the later report counts. Broken
    lines of the results are skipped with a warning.

    Args:
        folder: What was read of the folder.
        metric: The metric, with ``/`` between the levels of nested results.
        constraints: Names of constraints, likewise.
    """
    try:
        if folder.params is None:
            raise FileNotFoundError("there is no such file")
        configuration = dict(_flat(json.loads(folder.params)))
    except (OSError, ValueError, AttributeError) as error:
        message = f"skipped the trial {folder.path}: its {PARAMS} cannot be read: {error}"
        warnings.warn(message, SourceWarning, stacklevel=4)
        return None
    results = _read_results(folder)
    reports = _Reports()
    for number, result in enumerate(results, start=1):
        _add_result(reports, result, number, metric)
        reports.constraints |= reported_constraints(result, constraints)
    return ReportedTrial(
        configuration,
        _state(folder, results, reports),
        reports.values,
        reports.iterations,
        reports.cost,
        reports.started,
        reports.finished,
        reports.constraints,
    )


def reported_metrics(folder: TrialFolder) -> set[str]:
    """Return the names of the numbers that a trial's first result reports, but for Ray's own."""
    result = next(iter(_read_results(folder)), {})
    return {
        name
        for name, value in result.items()
        if as_float(value) is not None and name not in RESULT_KEYS_OF_RAY
    }


def as_float(value: Any) -> float | None:
    """Return a number as a float; None for booleans and anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def _state(
    folder: TrialFolder, results: Sequence[Mapping[str, Any]], reports: _Reports
) -> TrialState:
    if failed_since(folder, results[-1] if results else {}):
        return TrialState.FAILED
    # Without any report it may still be running. With reports it counts as ended: the folder does
    # not show whether it goes on.
    return TrialState.COMPLETE if reports.iterations or reports.values else TrialState.RUNNING


def _add_result(reports: _Reports, result: Mapping[str, Any], number: int, metric: str) -> None:
    iteration = result.get(ITERATION)
    iteration = iteration if isinstance(iteration, int) else number
    reports.iterations = max(reports.iterations, iteration)
    if (value := result.get(metric, _MISSING)) is not _MISSING:
        reported = as_float(value)
        reports.values[iteration] = math.nan if reported is None else reported
    moment = as_float(result.get(TIMESTAMP))
    if moment is not None:
        reports.finished = moment
        if reports.started is None:
            reports.started = moment - (as_float(result.get(STEP_SECONDS)) or 0.0)
    reports.cost = as_float(result.get(SECONDS))


# ---- lines ---------------------------------------------------------------------------------


def _read_results(folder: TrialFolder) -> list[dict[str, Any]]:
    """Return the lines of a trial's results, flat; one warning counts the broken ones."""
    lines = (folder.results or b"").splitlines()
    try:
        # As one array: a call for each line costs a fifth of the whole.
        return [_result(line) for line in json.loads(b"[%b]" % b",".join(lines))]
    except (ValueError, AttributeError):
        return _read_lines(folder, lines)


def _read_lines(folder: TrialFolder, lines: Sequence[bytes]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    broken: list[int] = []
    for number, line in enumerate(lines, start=1):
        try:
            results.append(_result(json.loads(line)))
        except (ValueError, AttributeError):
            broken.append(number)
    if broken:
        lines_are = "1 broken line" if len(broken) == 1 else f"{len(broken)} broken lines"
        message = f"skipped {lines_are} of {folder.path}/{RESULTS}, the first is line {broken[0]}"
        warnings.warn(message, SourceWarning, stacklevel=6)
    return results


def _result(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report, flat, without the configuration that Ray repeats in each."""
    return dict(_flat({name: value for name, value in line.items() if name != "config"}))


def _flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield names with ``/`` between levels; lists, which no space has, become JSON strings.

    Raises:
        AttributeError: For anything but a mapping.
    """
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}{SEPARATOR}")
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, list) else value
