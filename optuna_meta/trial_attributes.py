"""What a trial carries: the configuration decided for it, and why.

Both are kept in the trial's system attributes: parallel workers see each other only through the
storage. Each is one attribute, so that no reader ever meets half of one; attributes are strings
of any length in every schema that Optuna 5 opens.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from metahpo.suggest.decision_record import DecisionRecord
from metahpo.tasks.choices import holds_in_json, plain_scalar
from metahpo.tasks.space import Configuration
from optuna_meta._optuna import (
    enqueued_params,
    keeps_objects,
    set_trial_attribute,
    trial_attribute,
)

CONFIGURATION_ATTR = "metahpo:configuration"
DECISION_ATTR = "metahpo:decision"


def write_decision(
    study: Study, trial: FrozenTrial, configuration: Configuration, decision: DecisionRecord
) -> None:
    """Write what was decided for a trial, for the other workers and for people.

    Only memory can hold every choice. What a history's objects have no place for in the study's
    storage, the study itself cannot be about.
    """
    plain = {name: plain_scalar(value) for name, value in configuration.items()}
    storable = {name: value for name, value in plain.items() if holds_in_json(value)}
    kept = configuration if keeps_objects(study) else storable
    set_trial_attribute(study, trial, CONFIGURATION_ATTR, kept)
    set_trial_attribute(study, trial, DECISION_ATTR, decision.to_json())


def decided_configuration(trial: FrozenTrial) -> Configuration | None:
    """Return the configuration decided for a trial; None where none was."""
    return trial_attribute(trial, CONFIGURATION_ATTR)


def recorded_decision(trial: FrozenTrial) -> DecisionRecord | None:
    """Return why a trial's configuration was chosen; None where ``MetaSampler`` chose none.

    Args:
        trial: A trial of a study, such as ``study.trials[3]``.

    Raises:
        ValueError: For an attribute that does not hold a decision.
    """
    found = trial_attribute(trial, DECISION_ATTR)
    return None if found is None else DecisionRecord.from_json(found)


def planned_configuration(trial: FrozenTrial) -> dict[str, Any]:
    """Return what a trial was to try, as far as is known; its actual values come first."""
    return {**(decided_configuration(trial) or {}), **enqueued_params(trial), **trial.params}


def is_undecided(trial: FrozenTrial, names: Collection[str]) -> bool:
    """Whether a trial is running and what is not enqueued of its configuration is yet to decide.

    Args:
        trial: A trial of the study.
        names: The hyperparameters that are known to be requested; empty while none is.
    """
    enqueued = enqueued_params(trial)
    return (
        trial.state is TrialState.RUNNING
        and decided_configuration(trial) is None
        and not trial.params
        and (not names or any(name not in enqueued for name in names))
    )
