"""What a trial carries: the configuration decided for it, and the reasons.

Both are kept in the trial's system attributes: parallel workers see each other only through the
storage. Each is one attribute, so that no reader ever meets half of one; attributes are texts of
any length in every schema that Optuna 5 opens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from metahpo.suggest.decision import Decision
from metahpo.tasks.space import Configuration

CONFIGURATION_ATTR = "metahpo:configuration"
DECISION_ATTR = "metahpo:decision"
# Where Optuna keeps the values of an enqueued trial.
FIXED_ATTR = "fixed_params"


def record(
    study: Study, trial: FrozenTrial, configuration: Configuration, decision: Decision
) -> None:
    """Writes what was decided for a trial, for the other workers and for people."""
    storage, trial_id = study._storage, trial._trial_id
    storage.set_trial_system_attr(trial_id, CONFIGURATION_ATTR, dict(configuration))
    storage.set_trial_system_attr(trial_id, DECISION_ATTR, _in_study_units(study, decision))


def recorded_configuration(trial: FrozenTrial) -> Configuration | None:
    """The configuration decided for a trial; None where none was."""
    return trial.system_attrs.get(CONFIGURATION_ATTR)


def recorded_decision(trial: FrozenTrial) -> Decision | None:
    """The decision that chose a trial's configuration; None where none did.

    Raises:
        ValueError: For a record that is no decision.
    """
    found = trial.system_attrs.get(DECISION_ATTR)
    return None if found is None else Decision.from_json(found)


def planned_configuration(trial: FrozenTrial) -> dict[str, Any]:
    """What a running trial is trying, as far as is known: the values it took come first."""
    fixed = trial.system_attrs.get(FIXED_ATTR, {})
    return {**(recorded_configuration(trial) or {}), **fixed, **trial.params}


def is_undecided(trial: FrozenTrial) -> bool:
    """Whether a trial was started and nothing is known yet of what it will try."""
    return (
        trial.state is TrialState.RUNNING
        and recorded_configuration(trial) is None
        and not planned_configuration(trial)
    )


def _in_study_units(study: Study, decision: Decision) -> dict[str, Any]:
    """The record of a decision, its prediction with the sign that the study's values have."""
    if study.direction is StudyDirection.MINIMIZE and decision.mean is not None:
        decision = replace(decision, mean=-decision.mean)
    return decision.to_json()
