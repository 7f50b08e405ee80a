"""Every access to Optuna beyond its documented interface, one function each.

Documented are studies, trials, distributions and the abstract sampler; storages and what lies
behind a study or a trial are not. Where Optuna changes, this file changes and no other; its tests
(``tests/optuna_meta/test_optuna_internals.py``) fail first. What Optuna writes into databases is
in ``database.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.samplers import PartialFixedSampler
from optuna.samplers._base import _process_constraints_after_trial
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage, _CachedStorage
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

# ---- studies -------------------------------------------------------------------------------


def storage_of(study: Study) -> BaseStorage:
    """Return the storage of a study."""
    return study._storage


def study_id(study: Study) -> int:
    """Return the identifier of a study within its storage."""
    return study._study_id


def all_trials(study: Study) -> list[FrozenTrial]:
    """Return all trials of a study in the order of their numbers; they must not be changed.

    ``study.get_trials`` would hide other brackets' trials under Hyperband: each bracket would
    then start with the same recommendations.
    """
    return study._storage.get_all_trials(study._study_id, deepcopy=False)


def study_attribute(study: Study, key: str) -> Any:
    """Return a system attribute of a study; None where it has none."""
    return study._storage.get_study_system_attrs(study._study_id).get(key)


def set_study_attribute(study: Study, key: str, value: Any) -> None:
    """Set a system attribute of a study to something that JSON can hold."""
    study._storage.set_study_system_attr(study._study_id, key, value)


def keeps_objects(study: Study) -> bool:
    """Whether attributes of a study and of its trials may be any object, not JSON alone."""
    return isinstance(study._storage, InMemoryStorage)


# ---- trials --------------------------------------------------------------------------------


def frozen(trial: Trial | FrozenTrial) -> FrozenTrial:
    """Return a trial as it is stored now; one that is frozen already as it is."""
    return trial.study._storage.get_trial(trial._trial_id) if isinstance(trial, Trial) else trial


def set_trial_attribute(study: Study, trial: FrozenTrial, key: str, value: Any) -> None:
    """Set a system attribute of a trial to something that JSON can hold."""
    study._storage.set_trial_system_attr(trial._trial_id, key, value)


def trial_attribute(trial: FrozenTrial, key: str) -> Any:
    """Return a system attribute of a trial; None where there is none."""
    return trial.system_attrs.get(key)


def enqueued_params(trial: FrozenTrial) -> Mapping[str, Any]:
    """Return the values that ``enqueue_trial`` fixed for a trial; empty for other trials."""
    return trial.system_attrs.get("fixed_params", {})


def store_constraints(
    constraints_func: Callable[[FrozenTrial], Sequence[float]],
    study: Study,
    trial: FrozenTrial,
    state: TrialState,
) -> None:
    """Store a trial's constraints where ``FrozenTrial.constraints`` finds them.

    Raises:
        ValueError: For a constraint that is NaN.
    """
    _process_constraints_after_trial(constraints_func, study, trial, state)


def warn_deprecated_constraints_func() -> None:
    """Warn as Optuna's own samplers do, on the line that made the sampler."""
    message = (
        "`constraints_func` has been deprecated in Optuna 5.0.0. "
        "Use `optuna.trial.Trial.set_constraint` instead."
    )
    warnings.warn(message, FutureWarning, stacklevel=3)


def sampler_params(study: Study) -> Mapping[str, Any]:
    """Return the values that ``PartialFixedSampler`` fixes for a study's next trials.

    It tells the sampler within nothing of them but by leaving their names out of the search space.
    """
    fixed: dict[str, Any] = {}
    sampler = study.sampler
    while isinstance(sampler, PartialFixedSampler):
        # Of samplers within each other, the outer one counts.
        fixed = {**sampler._fixed_params, **fixed}
        sampler = sampler._base_sampler
    return fixed


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution has a value, given as objectives see it."""
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (TypeError, ValueError):
        return False


# ---- storages ------------------------------------------------------------------------------


@dataclass(frozen=True)
class StudyEntry:
    """A study in a storage.

    Attributes:
        study_id: Its identifier there.
        name: Its name.
        directions: One for each objective.
        attributes: Its system attributes.
        user_attributes: Its user attributes.
    """

    study_id: int
    name: str
    directions: Sequence[StudyDirection]
    attributes: Mapping[str, Any]
    user_attributes: Mapping[str, Any]


def studies_in(storage: BaseStorage) -> Iterator[StudyEntry]:
    """The studies of a storage, in the order in which they were created."""
    for study in storage.get_all_studies():
        yield StudyEntry(
            study._study_id,
            study.study_name,
            study.directions,
            study.system_attrs,
            study.user_attrs,
        )


def trials_in(storage: BaseStorage, study_id: int) -> list[FrozenTrial]:
    """Return the trials of a study in the order of their numbers; they must not be changed."""
    return storage.get_all_trials(study_id, deepcopy=False)


def without_cache(storage: BaseStorage) -> BaseStorage:
    """Return the storage behind the cache that studies put before databases."""
    return storage._backend if isinstance(storage, _CachedStorage) else storage


def engine_of(storage: BaseStorage) -> sa.Engine | None:
    """Return the engine of a database; None for other storages."""
    backend = without_cache(storage)
    return backend.engine if isinstance(backend, RDBStorage) else None


def journal_path(storage: BaseStorage) -> str | None:
    """Return the path of a journal file; None for other storages."""
    if isinstance(storage, JournalStorage) and isinstance(storage._backend, JournalFileBackend):
        return storage._backend._file_path
    return None
