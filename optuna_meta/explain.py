"""Why a trial of Optuna's tries what it tries."""

from __future__ import annotations

from optuna.trial import FrozenTrial, Trial

from metahpo.suggest.decision_text import describe
from optuna_meta.record import FIXED_ATTR, recorded_decision


def explain(trial: Trial | FrozenTrial) -> str:
    """What ``MetaSampler`` decided for a trial and why, as a paragraph.

    Args:
        trial: A trial of a study (``study.trials[3]``, ``study.best_trial``), or the live one
            inside an objective, after its first suggestion.

    Returns:
        Sentences; the predicted value is in the study's own units and direction.

    Raises:
        ValueError: For a trial that ``MetaSampler`` did not decide.
    """
    frozen = trial.study._storage.get_trial(trial._trial_id) if isinstance(trial, Trial) else trial
    decision = recorded_decision(frozen)
    if decision is None:
        raise ValueError(f"trial {frozen.number} carries no decision: {_why_none(frozen)}")
    return f"Trial {frozen.number}: {describe(decision)}"


def _why_none(trial: FrozenTrial) -> str:
    if FIXED_ATTR in trial.system_attrs:
        return "its values were enqueued"
    return "MetaSampler had nothing to decide for it, or another sampler was at work"
