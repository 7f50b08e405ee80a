"""Why a trial of Optuna's tries what it tries."""

from __future__ import annotations

from optuna.trial import FrozenTrial, Trial, TrialState

from metahpo.suggest.decision_text import describe
from optuna_meta._optuna import enqueued_params, frozen
from optuna_meta.trial_attributes import recorded_decision


def explain(trial: Trial | FrozenTrial) -> str:
    """Return what ``MetaSampler`` decided for a trial and why, as a paragraph.

    Args:
        trial: A trial of a study (``study.trials[3]``, ``study.best_trial``), or the live one
            inside an objective, after its first suggestion.

    Returns:
        Sentences; the predicted value is in the study's own units and direction. One sentence
        for a trial that ``MetaSampler`` did not decide.

    Raises:
        ValueError: For a trial whose recorded decision was damaged.
    """
    stored = frozen(trial)
    decision = recorded_decision(stored)
    return (
        f"Trial {stored.number}: {_undecided(stored) if decision is None else describe(decision)}"
    )


def _undecided(trial: FrozenTrial) -> str:
    """Return why a trial carries no decision."""
    enqueued = enqueued_params(trial)
    if trial.params and trial.params.keys() <= enqueued.keys():
        return "All its values were enqueued; MetaSampler had nothing to decide."
    if not trial.params and trial.state is TrialState.WAITING:
        return "It waits to be run; what was not enqueued is decided once it runs."
    if not trial.params and not trial.state.is_finished():
        return "It has asked for no hyperparameter yet, and nothing is decided before."
    if not trial.params:
        return "It asked for no hyperparameter, so that there was nothing to decide."
    given = [name for name in trial.params if name in enqueued]
    others = f" but for {', '.join(given)}, which was enqueued" if given else ""
    return (
        "MetaSampler recorded no decision: its values were fixed, the only possible ones, added "
        f"with the trial or suggested by another sampler{others}."
    )
