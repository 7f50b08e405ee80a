"""Why a trial of Optuna's tries what it tries."""

from __future__ import annotations

from optuna.trial import FrozenTrial, Trial

from metahpo.suggest.decision_text import describe
from optuna_meta._optuna import enqueued_params, frozen
from optuna_meta.trial_attributes import recorded_decision


def explain(trial: Trial | FrozenTrial) -> str:
    """Return what ``MetaSampler`` decided for a trial and why, as a paragraph.

    Args:
        trial: A trial of a study (``study.trials[3]``, ``study.best_trial``), or the live one
            inside an objective, after its first suggestion.

    Returns:
        Sentences; the predicted value is in the study's own units and direction.

    Raises:
        ValueError: For a trial that ``MetaSampler`` did not decide.
    """
    stored = frozen(trial)
    decision = recorded_decision(stored)
    if decision is None:
        raise ValueError(f"trial {stored.number} carries no decision: {_reason(stored)}")
    return f"Trial {stored.number}: {describe(decision)}"


def _reason(trial: FrozenTrial) -> str:
    if enqueued_params(trial):
        return "its values were enqueued"
    return "MetaSampler had nothing to decide for it, or another sampler suggested it"
