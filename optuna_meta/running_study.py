"""A study in progress as the task that the policy suggests for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial, TrialState
from optuna_meta.study_task import task_from_trials
from optuna_meta.trial_attributes import planned_configuration


def requested_distributions(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """Return the distributions that a study's trials requested; the latest of each name.

    Args:
        trials: The study's trials, in the order of their numbers.

    Returns:
        Nothing before a trial has finished: until then no trial has requested all of them.
    """
    if not any(trial.state.is_finished() and trial.distributions for trial in trials):
        return {}
    return {
        name: distribution
        for trial in trials
        for name, distribution in trial.distributions.items()
    }


def running_task(
    study: Study,
    trials: Sequence[FrozenTrial],
    space: Space,
    metafeatures: Mapping[str, float],
) -> Task:
    """Return a study so far, with its running trials and what is known of their plans."""
    finished = [trial for trial in trials if trial.state.is_finished()]
    task = task_from_trials(study.study_name, finished, study.direction, metafeatures, space=space)
    past = [_as_planned(*pair) for pair in zip(task.trials, finished, strict=True)]
    return replace(task, trials=(*past, *_running(trials)))


def _as_planned(trial: Trial, stored: FrozenTrial) -> Trial:
    """Return a failed trial with its whole plan, others as they are.

    It may have ended before it asked for all that was decided; what was decided must not be
    decided again.
    """
    if stored.state is not OptunaState.FAIL:
        return trial
    return replace(trial, configuration=planned_configuration(stored))


def _running(trials: Sequence[FrozenTrial]) -> list[Trial]:
    plans = [planned_configuration(t) for t in trials if t.state is OptunaState.RUNNING]
    return [Trial(plan, None, TrialState.RUNNING) for plan in plans if plan]
