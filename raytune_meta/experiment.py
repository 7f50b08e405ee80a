"""Reading Ray Tune's experiments as past tasks.

An experiment is a folder, on a disk or at a URL, with one folder per trial, and a trial is read
from its ``params.json``, ``result.json`` (a JSON object per line) and ``error.txt`` alone. Ray is
not imported, and none of the pickles beside them is opened.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from metahpo.archive import (
    EmptySourceError,
    ReadOptions,
    SourceError,
    SourceWarning,
    UnrecognisedSourceError,
)
from metahpo.archive.limits import MOST_HYPERPARAMETERS
from metahpo.archive.shown import encodable, shown_source
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task
from raytune_meta.budget import Budget
from raytune_meta.folders import (
    ExperimentFolder,
    holds_new_experiment,
    is_url,
    read_folder,
    read_folders,
)
from raytune_meta.inferred_space import infer_space
from raytune_meta.reported_trial import ReportedTrial, as_trials
from raytune_meta.trial_folder import read_trial, reported_metrics

# Trials and experiments that a warning names.
_NAMED_AT_MOST = 5


class NoTrialsYetError(EmptySourceError):
    """A folder holds experiments, none of which has a trial yet."""


class RayReader:
    """Reads Ray Tune's experiments, for ``metahpo.archive.sources``."""

    types = (str,)
    accepts = "the folder or URL of a Ray Tune experiment or of several"
    looks_for = "a Ray Tune experiment with trials"

    def read(self, source: str, options: ReadOptions) -> list[Task]:
        """Return the experiments of a folder as tasks; see ``read_experiment``.

        One ``SourceWarning`` names the experiments, trials and lines that cannot be read.

        Args:
            source: The folder of an experiment or of several, on a disk or at a URL.
            options: The metric that was tuned, its mode, and the constraints.

        Raises:
            UnrecognisedSourceError: For anything but such a folder.
            NoTrialsYetError: For a folder of several of which none has a trial yet.
            SourceError: As ``read_experiment``; for several experiments, if none can be read.
        """
        budget = Budget()
        folder = read_folder(_located(source), budget)
        left_out: list[str] = []
        if folder.trials:
            tasks = [_task(folder, options, left_out)]
        else:
            tasks = _tasks(folder, options, left_out, budget)
        _warn(left_out, folder.path)
        return tasks


def _tasks(
    folder: ExperimentFolder, options: ReadOptions, left_out: list[str], budget: Budget
) -> list[Task]:
    """Return the experiments in a folder of several; add what is left out to ``left_out``."""
    tasks: list[Task] = []
    errors: list[SourceError] = []
    for experiment in read_folders(folder.path, budget):
        try:
            tasks.append(_task(experiment, options, left_out))
        except SourceError as error:
            errors.append(error)
    if tasks:
        left_out += [*folder.left_out, *map(str, errors)]
        return tasks
    if errors:
        raise errors[0]
    if not folder.left_out and holds_new_experiment(folder.path):
        raise NoTrialsYetError(
            f"no Ray Tune experiment in {folder.path} has a trial yet", folder.path
        )
    return [_task(folder, options, left_out)]


def _warn(left_out: list[str], path: str) -> None:
    if not left_out:
        return
    rest = len(left_out) - _NAMED_AT_MOST
    listed = "; ".join(left_out[:_NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
    warnings.warn(SourceWarning(f"skipped in {path}: {listed}", path), stacklevel=3)


def read_experiment(
    path: str | os.PathLike[str],
    metric: str | None,
    mode: Literal["max", "min"] | None,
    constraints: Sequence[str] = (),
) -> Task:
    """Return a Ray Tune experiment as a task.

    A trial's value is the metric's last report. Of an iteration that was reported again after a
    recovery, the later report counts. A trial that ended before the longest one counts as pruned:
    the folder does not record whether a scheduler stopped it. Broken trials and lines are skipped
    with a ``SourceWarning``. The search space is inferred (``inferred_space.infer_space``).

    Args:
        path: The experiment's folder (``~/ray_results/train_2025-03-01_12-00-00``), or its URL.
        metric: The metric that was tuned, with ``/`` between the levels of a nested result.
        mode: Whether the metric was maximised or minimised.
        constraints: Names of results that are at most 0 where a constraint holds; the last report
            of each counts. Where a trial never reported one it counts as met; where no trial did,
            with a ``SourceWarning``.

    Returns:
        The task, under the folder's name; its hyperparameters are the parameters that differ
        between the trials, with ``/`` between the levels of nested ones.

    Raises:
        SourceError: For a folder that is not an experiment, for one without the metric, and for
            one whose trials all have the same parameters.
    """
    left_out: list[str] = []
    folder = read_folder(_located(path), Budget())
    task = _task(folder, ReadOptions(metric, mode, tuple(constraints)), left_out)
    _warn(left_out, folder.path)
    return task


def _located(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    # A mistyped URL stays as it is, so that its password is recognised.
    located = text if is_url(text) else os.path.expanduser(text)  # noqa: PTH111
    return located.rstrip("/") or located


def _task(folder: ExperimentFolder, options: ReadOptions, left_out: list[str]) -> Task:
    """Return the task of an experiment; add what is left out of it to ``left_out``."""
    path, metric, mode = folder.path, options.metric, options.mode
    if not folder.trials and not folder.left_out:
        raise UnrecognisedSourceError(
            f"{path} is not the folder of a Ray Tune experiment with trials", path
        )
    if metric is None or mode not in ("max", "min"):
        raise SourceError(_what_to_pass(folder, metric, mode), path)
    read = [read_trial(trial, metric, options.constraints) for trial in folder.trials]
    reported = [trial for trial, _ in read if trial is not None]
    problems = [*folder.left_out, *(broken for _, broken in read if broken)]
    if not any(trial.reports for trial in reported):
        why = f" (skipped {problems[0]})" if problems else ""
        raise SourceError(_what_to_pass(folder, metric, mode) + why, path)
    space = infer_space([trial.configuration for trial in reported])
    if not len(space):
        raise SourceError(
            f"{path}: all {len(reported)} trials have the same parameters; a task needs some that "
            "differ",
            path,
        )
    if len(space) > MOST_HYPERPARAMETERS:
        raise SourceError(f"{path}: more than {MOST_HYPERPARAMETERS:,} hyperparameters", path)
    _warn_of_unreported(folder, reported, options.constraints)
    left_out += problems
    reported.sort(key=_started)
    trials = as_trials([_within(trial, space) for trial in reported], mode)
    source = encodable(shown_source(path))
    return Task(folder.name, space, trials, created=trials[0].started, source=source)


def _warn_of_unreported(
    folder: ExperimentFolder, reported: Sequence[ReportedTrial], constraints: Sequence[str]
) -> None:
    found = set().union(*(trial.constraints for trial in reported))
    if missing := [repr(name) for name in constraints if name not in found]:
        message = f"{folder.path}: no trial reported {', '.join(missing)}: taken as met by all"
        warnings.warn(message, SourceWarning, stacklevel=4)


def _started(trial: ReportedTrial) -> float:
    return math.inf if trial.started is None else trial.started


def _within(trial: ReportedTrial, space: Space) -> ReportedTrial:
    """Return a trial without the parameters that are not in the space."""
    configuration = {n: v for n, v in trial.configuration.items() if n in space}
    return replace(trial, configuration=configuration)


def _what_to_pass(folder: ExperimentFolder, metric: str | None, mode: str | None) -> str:
    """Return why an experiment cannot be read as requested, and what would work."""
    names = sorted(set().union(*(reported_metrics(trial) for trial in folder.trials)))
    available = f"its results hold {', '.join(map(repr, names)) or 'no numbers'}"
    path = folder.path
    if metric is None:
        return (
            f"{path}: reading a Ray Tune experiment requires a metric (--metric) and a mode, as "
            f"in `metahpo collect`, which makes an archive of it; {available}"
        )
    if mode not in ("max", "min"):
        return (
            f"{path}: reading a Ray Tune experiment requires a mode (--mode), 'max' or 'min', "
            f"got {mode!r}"
        )
    return f"{path}: no trial reported the metric {metric!r} (--metric); {available}"
