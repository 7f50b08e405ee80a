"""A sampler for Optuna that starts from what past studies learned.

This file is a shell: it tells the policy what the study knows and hands back what the policy
decided. The sampler keeps nothing about a study. What a trial was given is in that trial's
attributes, what the study knows is read from its storage at each trial, and each trial has a
random stream of its own; threads, processes and restarts therefore agree.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from metahpo.settings import PolicySettings
from metahpo.suggest.decision import Decision, Source
from metahpo.suggest.plugin import (
    checked_metafeatures,
    checked_seed,
    fresh_seed,
    random_configuration,
    suggest,
    trial_seed,
)
from metahpo.surrogate.registry import DEFAULT, checked_surrogate
from metahpo.tasks.alignment import match_names
from metahpo.tasks.space import Configuration, Space
from metahpo.tasks.task import Task
from optuna_meta.history import History, Past
from optuna_meta.progress import known_space, study_as_task
from optuna_meta.record import FIXED_ATTR, is_undecided, record, recorded_configuration
from optuna_meta.storage import TASK_ATTR

_logger = optuna.logging.get_logger(f"optuna.{__name__}")

# A worker decides within seconds of starting a trial. One that has not decided within this time
# has died, or will not ask this sampler.
_DECIDES_WITHIN = timedelta(minutes=1)
_UNKNOWN_SPACE = "Neither the study nor its history tells the search space yet: drawn at random."


class MetaSampler(BaseSampler):
    """A sampler that learns from past studies.

    The first trial is already a recommendation of the history. Later ones come from a model of
    the present study and the past ones, which are trusted as far as they predict the present.
    Without any history they come from a pretrained network where it knows the learner, and from
    a Gaussian process elsewhere. Single-objective studies only.

    Example:
        >>> import optuna
        >>> from optuna_meta import MetaSampler
        >>> study = optuna.create_study(sampler=MetaSampler(seed=0))
        >>> study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=3)

    Args:
        history: Where past studies are: the URL or file of a storage, an Optuna storage, a
            ``Study``, an ``Archive``, the path or URL of an archive, a ``Task``, or a list of
            these. None for the other studies of the study's own storage. Read once, when a
            study first needs it.
        task: Meta-features of the task at hand, numbers by name (``{"rows": 5e4}``), as
            ``metahpo.metafeatures.extract`` gives them; NaN is what is not known. They are
            kept with the study, for this sampler's workers and for later readers.
        surrogate: What predicts: ``"neural"``, a network pretrained on many tuning tasks, where
            it knows the learner or the past bears it out; ``"gp"``, Gaussian processes over the
            trials and the past; or a file of such a network's weights, as ``metahpo train
            surrogate`` makes them.
        settings: Of the policy, for research; nobody else has a reason to change them.
        seed: Makes suggestions reproducible.
        warn_independent_sampling: Whether to log a warning when a hyperparameter that the
            study has seen before had to be drawn at random.

    Raises:
        TypeError: For a history, a task or a surrogate of the wrong type.
        FileNotFoundError: For a file of weights that is not there.
        ValueError: For a meta-feature that is infinite, or a negative seed.
    """

    def __init__(
        self,
        *,
        history: Past | Iterable[Past] | None = None,
        task: Mapping[str, float] | None = None,
        surrogate: str | os.PathLike[str] = DEFAULT,
        settings: PolicySettings | None = None,
        seed: int | None = None,
        warn_independent_sampling: bool = True,
    ) -> None:
        self._history = History(history)
        self._metafeatures = checked_metafeatures({} if task is None else task)
        self._surrogate = checked_surrogate(surrogate)
        self._settings = settings or PolicySettings()
        self._seed = fresh_seed() if seed is None else checked_seed(seed)
        self._warn_independent_sampling = warn_independent_sampling

    def reseed_rng(self) -> None:
        """Changes the seed; Optuna calls this in each thread of ``n_jobs > 1``."""
        self._seed = fresh_seed()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Keeps the meta-features with the study, for other workers and later readers."""
        if self._metafeatures and _stored_metafeatures(study) != self._metafeatures:
            study._storage.set_study_system_attr(study._study_id, TASK_ATTR, self._metafeatures)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All that the study's trials have asked for, as it was asked last.

        Empty while no trial has finished. What the history recommends is then served by
        ``sample_independent``, fitted to what the objective asks for: a past task may have had
        other distributions under the same names, which Optuna would refuse here.
        """
        self._raise_error_if_multi_objective(study)
        fixed = trial.system_attrs.get(FIXED_ATTR, {})
        return {
            name: distribution
            for name, distribution in known_space(_trials(study)).items()
            if name not in fixed and not distribution.single()
        }

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Decides what the trial tries, and records it with the trial."""
        self._raise_error_if_multi_objective(study)
        configuration = recorded_configuration(trial)
        if configuration is None:
            configuration = self._decide(study, trial, search_space)
        return {name: configuration[name] for name in search_space if name in configuration}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The decided value, fitted to the distribution; a random one where none was decided."""
        self._raise_error_if_multi_objective(study)
        decided = recorded_configuration(trial) or {}
        asked = Space({param_name: param_distribution})
        if param_name not in decided:
            decided = self._known_otherwise(study, decided, asked)
        fitted = _fitted(decided, asked)
        if param_name in fitted:
            return fitted[param_name]
        if self._warn_independent_sampling and param_name in known_space(_trials(study)):
            _logger.warning(
                f"Trial {trial.number}: {param_name!r} is drawn at random, because the "
                "configuration decided for the trial has no value for it. "
                "`warn_independent_sampling=False` silences this."
            )
        rng = np.random.default_rng(
            (trial_seed(self._seed, trial.number), zlib.crc32(param_name.encode()))
        )
        return random_configuration(asked, rng)[param_name]

    # ---- deciding --------------------------------------------------------------------------

    def _decide(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> Configuration:
        trials = [other for other in _trials(study) if other.number != trial.number]
        if not search_space and known_space(trials):
            return {}  # All is fixed, or has a single value.
        space = Space(search_space) or self._expected_space(study)
        if space is None:
            decision = Decision(({},), Source.SPACE_FILLING, _UNKNOWN_SPACE)
        else:
            task = study_as_task(study, trials, space, self._metafeatures_of(study))
            history = self._history.tasks(study)
            decision = self._suggest(task, history, trial, _deciding_before(trial, trials))
        configuration = decision.configurations[-1]
        record(study, trial, configuration, decision)
        return configuration

    def _known_otherwise(
        self, study: Study, decided: Configuration, asked: Space
    ) -> Configuration:
        """The value that a recommendation has for what is asked under another name.

        Only a trial that runs before the study's space is known can have one.
        """
        if not decided or known_space(_trials(study)):
            return {}
        space = self._expected_space(study)
        matches = {} if space is None else match_names(space, asked)
        return {name: decided[past] for past, name in matches.items() if past in decided}

    def _expected_space(self, study: Study) -> Space | None:
        return self._history.tasks(study).expected_space(self._metafeatures_of(study))

    def _metafeatures_of(self, study: Study) -> dict[str, float]:
        return self._metafeatures or _stored_metafeatures(study)

    def _suggest(
        self, task: Task, history: Sequence[Task], trial: FrozenTrial, deciding: int
    ) -> Decision:
        """The policy's decision; its last configuration is the trial's.

        Workers that start together know nothing of each other's plans yet. The trial started
        n-th takes the n-th of a batch, so that they do not all try the same.
        """
        decision = suggest(
            task,
            history,
            count=deciding + 1,
            seed=trial_seed(self._seed, trial.number),
            define_by_run=True,
            surrogate=self._surrogate,
            settings=self._settings,
            failed=lambda error: _logger.warning(
                f"Trial {trial.number}: the model failed ({error!r}).", exc_info=True
            ),
        )
        # What was predicted is the value of the first of the batch.
        return replace(decision, mean=None, deviation=None) if deciding else decision


def _trials(study: Study) -> list[FrozenTrial]:
    """All trials of a study in the order of their numbers.

    ``study.get_trials`` would hide other brackets' trials under Hyperband: each bracket would
    then start with the same recommendations.
    """
    return study._storage.get_all_trials(study._study_id, deepcopy=False)


def _deciding_before(trial: FrozenTrial, others: Sequence[FrozenTrial]) -> int:
    """The number of trials, started just before this one, whose workers are still deciding."""
    now = trial.datetime_start or datetime.now()
    return sum(
        is_undecided(other)
        and other.number < trial.number
        and other.datetime_start is not None
        and now - other.datetime_start < _DECIDES_WITHIN
        for other in others
    )


def _fitted(configuration: Configuration, asked: Space) -> dict[str, Any]:
    """The one value asked for, clipped and stepped; nothing where there is no place for it."""
    ((name, distribution),) = asked.distributions.items()
    if name in configuration and _contains(distribution, configuration[name]):
        # As it is: on its way through the unit cube a number may lose its last digit.
        internal = distribution.to_internal_repr(configuration[name])
        return {name: distribution.to_external_repr(internal)}
    return asked.decode(asked.encode([configuration]))[0]


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (TypeError, ValueError):
        return False


def _stored_metafeatures(study: Study) -> dict[str, float]:
    return study._storage.get_study_system_attrs(study._study_id).get(TASK_ATTR, {})
