"""A trial's folder, as Ray Tune writes it, as a ``ReportedTrial``."""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from metahpo.archive.bounded_json import check_depth, parse_json
from metahpo.archive.shown import encodable, reason_of
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
# The year 9999, in seconds.
_LATEST = 253_370_764_800.0


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
) -> tuple[ReportedTrial | None, str]:
    """Return the trial in a folder, and what is broken there.

    Of an iteration that was reported again after a recovery, the later report counts.

    Args:
        folder: What was read of the folder.
        metric: The metric, with ``/`` between the levels of nested results.
        constraints: Names of constraints, likewise.

    Returns:
        The trial, None where its parameters are broken; and which file or lines are broken, an
        empty string if none is.
    """
    name = posixpath.basename(folder.path)
    try:
        configuration = _read_params(folder.params)
    except ValueError as error:
        return None, f"trial {name}: its {PARAMS} cannot be read: {reason_of(error)}"
    results, broken = _read_results(folder)
    reports = _Reports()
    for number, result in enumerate(results, start=1):
        _add_result(reports, result, number, metric)
        reports.constraints |= reported_constraints(result, constraints)
    trial = ReportedTrial(
        configuration,
        _state(folder, results, reports),
        reports.values,
        reports.iterations,
        reports.cost,
        reports.started,
        reports.finished,
        reports.constraints,
    )
    return trial, f"{broken} of {name}/{RESULTS}" if broken else ""


def _read_params(content: bytes | None) -> dict[str, Any]:
    """Return the parameters of a trial, flat.

    Raises:
        ValueError: For what is no JSON object, or none that can be read.
    """
    if content is None:
        raise ValueError("there is no such file")
    params = parse_json(content)
    if not isinstance(params, dict):
        raise ValueError("it is no JSON object")
    # NaN is not even equal to itself: no choice can be made among such values.
    return {name: None if value != value else value for name, value in _flat(params)}


def reported_metrics(folder: TrialFolder) -> set[str]:
    """Return the names of the numbers that a trial's first result reports, but for Ray's own."""
    result = next(iter(_read_results(folder)[0]), {})
    return {
        name
        for name, value in result.items()
        if as_float(value) is not None and name not in RESULT_KEYS_OF_RAY
    }


def as_float(value: Any) -> float | None:
    """Return a number as a float; None for booleans, integers beyond all floats, anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _seconds(value: Any) -> float | None:
    """Return a duration or a moment in seconds; None for what cannot be one."""
    seconds = as_float(value)
    return seconds if seconds is not None and 0.0 <= seconds <= _LATEST else None


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
    if isinstance(iteration, bool) or not isinstance(iteration, int) or abs(iteration) > 2**53:
        iteration = number
    reports.iterations = max(reports.iterations, iteration)
    if (value := result.get(metric, _MISSING)) is not _MISSING:
        reported = as_float(value)
        reports.values[iteration] = math.nan if reported is None else reported
    moment = _seconds(result.get(TIMESTAMP))
    if moment is not None:
        reports.finished = moment
        if reports.started is None:
            reports.started = moment - (_seconds(result.get(STEP_SECONDS)) or 0.0)
    reports.cost = _seconds(result.get(SECONDS))


# ---- lines ---------------------------------------------------------------------------------


def _read_results(folder: TrialFolder) -> tuple[list[dict[str, Any]], str]:
    """Return the lines of a trial's results, flat, and how many are broken; empty for none."""
    lines = (folder.results or b"").splitlines()
    try:
        # As one array: a call for each line costs a fifth of the whole.
        parsed = json.loads(b"[%b]" % b",".join(lines))
        # A line that was cut off may go on in the next one.
        if len(parsed) == len(lines):
            return [_result(line) for line in parsed], ""
    except (ValueError, RecursionError):
        pass  # line by line it shows which
    return _read_lines(lines)


def _read_lines(lines: Sequence[bytes]) -> tuple[list[dict[str, Any]], str]:
    results: list[dict[str, Any]] = []
    broken: list[int] = []
    for number, line in enumerate(lines, start=1):
        try:
            results.append(_result(parse_json(line)))
        except ValueError:
            broken.append(number)
    if not broken:
        return results, ""
    count = "1 broken line" if len(broken) == 1 else f"{len(broken)} broken lines"
    return results, f"{count} (first line {broken[0]})"


def _result(line: Any) -> dict[str, Any]:
    """Return a report, flat, without the configuration that Ray repeats in each.

    Raises:
        ValueError: For anything but a JSON object of a depth that can be read.
    """
    if not isinstance(line, dict):
        raise ValueError("it is no JSON object")
    kept = {name: value for name, value in line.items() if name != "config"}
    check_depth(kept)
    return dict(_flat(kept))


def _flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield names with ``/`` between levels; lists, which no space has, become JSON strings."""
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}{SEPARATOR}")
        else:
            flat = json.dumps(value) if isinstance(value, list) else value
            yield encodable(f"{prefix}{name}"), flat
