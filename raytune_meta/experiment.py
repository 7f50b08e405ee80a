"""Reading Ray Tune's experiments, as tasks.

An experiment is a folder, on a disk or at a URL, with one folder a trial, and a trial is read from
its ``params.json``, ``result.json`` (a JSON object a line) and ``error.txt`` alone. Ray is not
imported, and none of the pickles that lie beside them is opened.

The folders do not tell the search space, so that it is inferred from the values that were
tried; see ``infer_space``.
"""

from __future__ import annotations

import json
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from metahpo.archive import SourceError, SourceWarning
from metahpo.tasks.space import Configuration, Space
from metahpo.tasks.task import Task, Trial, TrialState
from raytune_meta.folders import (
    PARAMS,
    RESULTS,
    ExperimentFolder,
    TrialFolder,
    is_url,
    read_folder,
    read_folders,
)

SEPARATOR = "/"

# A positive number that spans this factor, two decades, was searched on a log scale.
LOG_SPAN = 100.0
# Text that is another in each of more trials than this is a label, such as a path.
LABELS_FROM = 10

# Ray writes the same form of local time into its errors and into its results.
_FAILURE = re.compile(r"\(occurred at (\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)\)")
# What Ray itself puts into each result.
_RAYS_OWN = {
    "checkpoint_dir_name",
    "date",
    "done",
    "experiment_tag",
    "hostname",
    "iterations_since_restore",
    "node_ip",
    "pid",
    "should_checkpoint",
    "time_since_restore",
    "time_this_iter_s",
    "time_total_s",
    "timestamp",
    "timesteps_since_restore",
    "timesteps_total",
    "training_iteration",
    "trial_id",
}
_MISSING = object()


@dataclass(slots=True)
class _Reported:
    """What a trial's folder tells.

    Attributes:
        configuration: All parameters, flat.
        values: The metric by iteration, as reported; NaN where it was no number.
        iteration: The last iteration, whether or not it reported the metric.
        cost: Seconds, where told.
        started: POSIX seconds, where told.
        finished: POSIX seconds, where told.
        failed: Whether the last thing that happened was an error.
    """

    configuration: Configuration
    values: dict[int, float] = field(default_factory=dict)
    iteration: int = 0
    cost: float | None = None
    started: float | None = None
    finished: float | None = None
    failed: bool = False


def read_experiment(
    path: str | os.PathLike[str], metric: str | None, mode: Literal["max", "min"] | None
) -> Task:
    """A Ray Tune experiment as a task.

    A trial's value is the metric's last report. Of an iteration that was reported again after
    a recovery the later report counts. A trial that ended before the longest one counts as
    pruned: the folder does not tell whether a scheduler stopped it. Trials and lines that are
    broken are passed over with a ``SourceWarning``.

    Args:
        path: The experiment's folder (``~/ray_results/train_2025-03-01_12-00-00``), or its URL.
        metric: What was tuned, with ``/`` between the levels of a nested result.
        mode: Whether the metric was to be maximised or minimised.

    Returns:
        The task, under the folder's name; its hyperparameters are the parameters that differ
        between the trials, with ``/`` between the levels of nested ones.

    Raises:
        SourceError: For a folder that is no experiment, for one without the metric, and for
            one whose trials all have the same parameters.
    """
    return _task(read_folder(_located(path)), metric, mode)


def read_source(
    source: object,
    *,
    metric: str | None = None,
    mode: Literal["max", "min"] | None = None,
    **_options: object,
) -> list[Task]:
    """The reader that ``metahpo.archive.sources`` finds; see ``read_experiment``.

    Args:
        source: The folder of an experiment, or of several.
        metric: What was tuned.
        mode: Whether it was to be maximised or minimised.
        _options: Other readers need them.

    Raises:
        SourceError: As ``read_experiment``; of several experiments, where none can be read.
    """
    if not isinstance(source, str | os.PathLike):
        raise SourceError(f"a {type(source).__name__} is no folder of Ray Tune experiments")
    folder = read_folder(_located(source))
    experiments = [] if folder.trials else read_folders(folder.path)
    if not experiments:
        return [_task(folder, metric, mode)]
    tasks: list[Task] = []
    errors: list[SourceError] = []
    for experiment in experiments:
        try:
            tasks.append(_task(experiment, metric, mode))
        except SourceError as error:
            errors.append(error)
    if not tasks:
        raise errors[0]
    for error in errors:
        warnings.warn(f"skipped {error}", SourceWarning, stacklevel=2)
    return tasks


def _located(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    return text.rstrip("/") if is_url(text) else str(Path(text).expanduser())


def _task(folder: ExperimentFolder, metric: str | None, mode: str | None) -> Task:
    if not folder.trials:
        raise SourceError(f"{folder.path} is not the folder of a Ray Tune experiment")
    if metric is None or mode not in ("max", "min"):
        raise SourceError(_what_to_pass(folder, metric, mode), recognised=True)
    reported = [r for trial in folder.trials if (r := _read_trial(trial, metric)) is not None]
    if not any(trial.values for trial in reported):
        raise SourceError(_what_to_pass(folder, metric, mode), recognised=True)
    space = infer_space([trial.configuration for trial in reported])
    if not len(space):
        raise SourceError(
            f"{folder.path}: a task needs parameters that differ between its trials, and all "
            f"{len(reported)} have the same",
            recognised=True,
        )
    reported.sort(key=lambda trial: math.inf if trial.started is None else trial.started)
    longest = max(trial.iteration for trial in reported)
    trials = tuple(_trial(r, space, longest, 1.0 if mode == "max" else -1.0) for r in reported)
    return Task(folder.name, space, trials, created=reported[0].started, source=folder.path)


# ---- the space -----------------------------------------------------------------------------


def infer_space(configurations: Sequence[Configuration]) -> Space:
    """The space that configurations seem to be from.

    Numbers make a range from the least to the greatest value, on a log scale where they are
    positive and span two decades or more; whole numbers make a range of whole numbers. Anything
    else makes a choice among the values seen. Parameters that never differ are left out, and so
    is text that differs in each of more than ten trials: such a label tells nothing.

    Args:
        configurations: Flat configurations of the trials.
    """
    names = dict.fromkeys(name for configuration in configurations for name in configuration)
    found = {name: _distribution([c[name] for c in configurations if name in c]) for name in names}
    return Space({name: d for name, d in found.items() if d is not None})


def _distribution(values: list[Any]) -> BaseDistribution | None:
    """The distribution of a parameter's values; None where they tell nothing."""
    numbers = [_number(value) for value in values]
    if all(number is not None and math.isfinite(number) for number in numbers):
        low, high = min(values), max(values)
        log = low > 0 and high / low >= LOG_SPAN
        if low == high:
            return None
        if all(isinstance(value, int) for value in values):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    # By class as well: True is not 1.
    choices = {(type(value), value): value for value in values}
    is_label = len(choices) == len(values) > LABELS_FROM
    if len(choices) == 1 or (is_label and all(isinstance(value, str) for value in values)):
        return None
    return CategoricalDistribution(tuple(choices.values()))


# ---- trials --------------------------------------------------------------------------------


def _trial(reported: _Reported, space: Space, longest: int, sign: float) -> Trial:
    curve = tuple((float(i), sign * reported.values[i]) for i in sorted(reported.values))
    state = _state(reported, longest)
    told = state in (TrialState.COMPLETE, TrialState.PRUNED)
    return Trial(
        configuration={n: v for n, v in reported.configuration.items() if n in space},
        value=curve[-1][1] if told else None,
        state=state,
        curve=curve,
        cost=reported.cost,
        started=reported.started,
        finished=reported.finished,
    )


def _state(reported: _Reported, longest: int) -> TrialState:
    if reported.failed:
        return TrialState.FAILED
    if not reported.values:
        # One that reported, but never the metric, is of no use; one that did not may yet run.
        return TrialState.FAILED if reported.iteration else TrialState.RUNNING
    if not math.isfinite(reported.values[max(reported.values)]):
        return TrialState.FAILED
    return TrialState.COMPLETE if reported.iteration == longest else TrialState.PRUNED


def _read_trial(folder: TrialFolder, metric: str) -> _Reported | None:
    """A trial's folder; None, with a warning, where its parameters cannot be read."""
    try:
        if folder.params is None:
            raise FileNotFoundError("there is no such file")
        reported = _Reported(dict(_flat(json.loads(folder.params))))
    except (OSError, ValueError, AttributeError) as error:
        message = f"skipped the trial {folder.path}: its {PARAMS} cannot be read: {error}"
        warnings.warn(message, SourceWarning, stacklevel=4)
        return None
    results = _read_results(folder)
    for number, result in enumerate(results, start=1):
        _add_result(reported, result, number, metric)
    reported.failed = _failed_after(folder, results[-1].get("date") if results else None)
    return reported


def _add_result(reported: _Reported, result: Mapping[str, Any], number: int, metric: str) -> None:
    iteration = result.get("training_iteration")
    iteration = iteration if isinstance(iteration, int) else number
    reported.iteration = max(reported.iteration, iteration)
    if (value := result.get(metric, _MISSING)) is not _MISSING:
        number_reported = _number(value)
        reported.values[iteration] = math.nan if number_reported is None else number_reported
    moment = _number(result.get("timestamp"))
    if moment is not None:
        reported.finished = moment
        if reported.started is None:
            reported.started = moment - (_number(result.get("time_this_iter_s")) or 0.0)
    reported.cost = _number(result.get("time_total_s"))


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def _read_results(folder: TrialFolder) -> list[dict[str, Any]]:
    """The lines of a trial's results, flat; one warning counts those that are broken."""
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
    """A report, flat, without the configuration that Ray repeats in each."""
    return dict(_flat({name: value for name, value in line.items() if name != "config"}))


def _flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names with ``/`` between levels; lists, which no space has, become their JSON text.

    Raises:
        AttributeError: For what is no mapping.
    """
    for name, value in nested.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}{SEPARATOR}")
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, list) else value


def _failed_after(folder: TrialFolder, date: object) -> bool:
    """Whether the trial failed at or after the date of its last result.

    A trial that was recovered keeps the errors of its former attempts.
    """
    if folder.errors is None:
        return False
    failures = _FAILURE.findall(folder.errors.decode(errors="replace"))
    return not failures or not isinstance(date, str) or failures[-1] >= date


# ---- what to pass --------------------------------------------------------------------------


def _what_to_pass(folder: ExperimentFolder, metric: str | None, mode: str | None) -> str:
    """Why the experiment cannot be read as asked, and what would do."""
    names = sorted(set().union(*(_metrics(trial) for trial in folder.trials)))
    there = f"its results hold {', '.join(map(repr, names)) or 'no numbers'}"
    path = folder.path
    if metric is None:
        return f"{path}: a Ray Tune experiment needs a metric (--metric) and a mode; {there}"
    if mode not in ("max", "min"):
        return f"{path}: a Ray Tune experiment needs a mode (--mode), 'max' or 'min', got {mode!r}"
    return f"{path}: no trial reported the metric {metric!r} (--metric); {there}"


def _metrics(folder: TrialFolder) -> set[str]:
    """The names of the numbers that a trial's first result reports beside Ray's own."""
    result = next(iter(_read_results(folder)), {})
    return {
        name
        for name, value in result.items()
        if _number(value) is not None and name not in _RAYS_OWN
    }
