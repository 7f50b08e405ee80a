"""A sampler for Optuna that starts from what past studies learned.

This file is a shell around the policy: a study goes in as a task, and a decision comes back. The
sampler keeps nothing about a study. The configuration decided for a trial is in that trial's
attributes, the study is read from its storage at each trial, and each trial has a random stream
of its own; threads, processes and restarts therefore agree.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from metahpo.settings import PolicySettings
from metahpo.suggest.decision import Decision, Source
from metahpo.suggest.decision_record import record_of
from metahpo.suggest.plugin import (
    checked_metafeatures,
    checked_seed,
    fresh_seed,
    random_configuration,
    report_failure,
    suggest,
    trial_seed,
)
from metahpo.surrogate.registry import DEFAULT, checked_surrogate
from metahpo.tasks.alignment import match_names
from metahpo.tasks.space import Configuration, Space
from metahpo.tasks.task import Task
from optuna_meta._optuna import (
    all_trials,
    contains,
    enqueued_params,
    set_study_attribute,
    store_constraints,
    study_attribute,
    warn_deprecated_constraints_func,
)
from optuna_meta.fixed_params import fixed_in, fixed_params
from optuna_meta.running_study import requested_distributions, running_task
from optuna_meta.study_history import HistorySource, StudyHistory
from optuna_meta.study_task import TASK_ATTR, metafeatures_in, sign_of
from optuna_meta.trial_attributes import decided_configuration, is_undecided, write_decision

_logger = optuna.logging.get_logger(f"optuna.{__name__}")

# A worker decides within seconds of starting a trial. One that has not decided within this time
# has died, or does not use this sampler.
_DECIDES_WITHIN = timedelta(minutes=1)
_UNKNOWN_SPACE = "The search space is not known yet, nor is there a history: drawn at random."


class MetaSampler(BaseSampler):
    """A sampler that learns from past studies.

    The first trial is already a recommendation from the history. Later ones come from a model of
    the present study and the past ones, which are trusted as far as they predict the present.
    Without any history they come from a pretrained network if it was trained on the learner at
    hand, and from a Gaussian process otherwise. Single-objective studies only.

    With constraints (``trial.set_constraint``), in this study or in past ones, a trial that
    violates one counts as worse than every feasible trial; a larger violation, summed over the
    constraints, counts as worse.

    Example:
        >>> import optuna
        >>> from optuna_meta import MetaSampler
        >>> study = optuna.create_study(sampler=MetaSampler(seed=0))
        >>> study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=3)

    Args:
        history: Where past studies are: the URL or file of a storage, an Optuna storage, a
            ``Study``, an ``Archive``, the path or URL of an archive, a ``Task``, whatever else
            a registered reader accepts, or a list of these. None for the other studies of the
            study's own storage. Read once, when a study first needs it. A source that does not
            exist or holds no past study is an error (``metahpo.SourceError`` at the first
            trial), except for the study's own storage and an empty list.
        task: Meta-features of the task at hand, numbers by name (``{"rows": 5e4}``), as
            ``metahpo.metafeatures.extract`` computes them; NaN where unknown. They are stored
            with the study, for this sampler's workers and for later readers.
        surrogate: The surrogate: ``"neural"``, a network pretrained on many tuning tasks, used
            where it was trained on the learner or predicts the history well; ``"gp"``, Gaussian
            processes over the trials and the history; or a file of such a network's weights, as
            ``metahpo train surrogate`` writes them; or a registered one
            (``metahpo.register_surrogate``).
        settings: Settings of the policy, for research; other users have no reason to change them.
        seed: Makes suggestions reproducible.
        warn_independent_sampling: Whether to log a warning when a hyperparameter that the
            study has seen before had to be drawn at random.
        constraints_func: As in Optuna's samplers, and deprecated as there; in its place call
            ``trial.set_constraint`` in the objective. Called with each trial that completed or
            was pruned, it returns a sequence of numbers, each at most 0 where its constraint
            holds.

    Raises:
        TypeError: For a history, a task or a surrogate of the wrong type.
        FileNotFoundError: For a file of weights that does not exist.
        ValueError: For an empty string as history, an infinite meta-feature or a negative seed.
    """

    def __init__(
        self,
        *,
        history: HistorySource | Iterable[HistorySource] | None = None,
        task: Mapping[str, float] | None = None,
        surrogate: str | os.PathLike[str] = DEFAULT,
        settings: PolicySettings | None = None,
        seed: int | None = None,
        warn_independent_sampling: bool = True,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
    ) -> None:
        if constraints_func is not None:
            warn_deprecated_constraints_func()
        self._constraints_func = constraints_func
        self._history = StudyHistory(history)
        self._metafeatures = checked_metafeatures({} if task is None else task)
        self._surrogate = checked_surrogate(surrogate)
        self._settings = settings or PolicySettings()
        self._seed = fresh_seed() if seed is None else checked_seed(seed)
        self._warn_independent_sampling = warn_independent_sampling
        # Studies in which a model has failed, so that it is said once.
        self._failed_studies: set[str] = set()

    def reseed_rng(self) -> None:
        """Change the seed; Optuna calls this in each thread of ``n_jobs > 1``."""
        self._seed = fresh_seed()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Store the meta-features with the study, for other workers and later readers."""
        if self._metafeatures and _stored_metafeatures(study) != self._metafeatures:
            set_study_attribute(study, TASK_ATTR, self._metafeatures)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Store the constraints that ``constraints_func`` finds for a trial.

        Raises:
            ValueError: For a constraint that is NaN.
        """
        if self._constraints_func is not None:
            store_constraints(self._constraints_func, study, trial, state)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all distributions that the study's trials requested, the latest of each name.

        Empty while no trial has finished. A recommendation from the history is then served by
        ``sample_independent``, fitted to what the objective requests: a past task may have had
        other distributions under the same names, which Optuna would refuse here.
        """
        _check_single_objective(study)
        fixed = enqueued_params(trial)
        return {
            name: distribution
            for name, distribution in requested_distributions(all_trials(study)).items()
            if name not in fixed and not distribution.single()
        }

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Decide what the trial tries, and record it with the trial."""
        _check_single_objective(study)
        configuration = decided_configuration(trial)
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
        """Return the decided value, fitted to the distribution, or a random one without it."""
        _check_single_objective(study)
        decided = decided_configuration(trial) or {}
        requested = Space({param_name: param_distribution})
        if param_name not in decided:
            decided = self._decided_under_synonym(study, decided, requested)
        fitted = _fitted(decided, requested)
        if param_name in fitted:
            return fitted[param_name]
        known = self._warn_independent_sampling and requested_distributions(all_trials(study))
        if known and param_name in known:
            _logger.warning(
                f"Trial {trial.number}: {param_name!r} is drawn at random, because the "
                "configuration decided for the trial has no value for it. "
                "`warn_independent_sampling=False` silences this."
            )
        # Names may hold lone surrogates.
        name = zlib.crc32(param_name.encode(errors="surrogatepass"))
        rng = np.random.default_rng((trial_seed(self._seed, trial.number), name))
        return random_configuration(requested, rng)[param_name]

    # ---- deciding --------------------------------------------------------------------------

    def _decide(
        self, study: Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> Configuration:
        trials = [other for other in all_trials(study) if other.number != trial.number]
        requested = requested_distributions(trials)
        if not search_space and requested:
            return {}  # Every hyperparameter is fixed or has a single value.
        fixed = fixed_params(study, trial)
        chosen_or_fixed = {
            name: distribution
            for name, distribution in requested.items()
            if name in search_space or (name in fixed and not distribution.single())
        }
        space = Space({**chosen_or_fixed, **search_space}) or self._expected_space(study)
        if space is None:
            decision, position = Decision(({},), Source.SPACE_FILLING, _UNKNOWN_SPACE), 0
        else:
            task = running_task(study, trials, space, self._metafeatures_of(study))
            # Workers that start together cannot see each other's plans yet. The trial started
            # n-th runs the n-th of a batch, so that they do not all try the same.
            position = _deciding_before(trial, trials, requested)
            decision = self._suggest(
                task, self._history.tasks(study), trial, position + 1, fixed_in(space, fixed)
            )
        configuration = decision.configurations[-1]
        record = record_of(decision, sign_of(study.direction), position)
        write_decision(study, trial, configuration, record)
        return configuration

    def _decided_under_synonym(
        self, study: Study, decided: Configuration, requested: Space
    ) -> Configuration:
        """Return the value that a recommendation has for a hyperparameter of another name.

        Only a trial that runs before the study's space is known can have one.
        """
        if not decided or requested_distributions(all_trials(study)):
            return {}
        space = self._expected_space(study)
        matches = {} if space is None else match_names(space, requested)
        return {name: decided[past] for past, name in matches.items() if past in decided}

    def _expected_space(self, study: Study) -> Space | None:
        return self._history.tasks(study).expected_space(self._metafeatures_of(study))

    def _metafeatures_of(self, study: Study) -> dict[str, float]:
        return self._metafeatures or _stored_metafeatures(study)

    def _suggest(
        self,
        task: Task,
        history: Sequence[Task],
        trial: FrozenTrial,
        count: int,
        fixed: Mapping[str, Any],
    ) -> Decision:
        return suggest(
            task,
            history,
            count=count,
            seed=trial_seed(self._seed, trial.number),
            fixed=fixed,
            define_by_run=True,
            surrogate=self._surrogate,
            settings=self._settings,
            on_failure=lambda error: report_failure(
                error, f"Study {task.name!r}", self._failed_studies, _logger
            ),
        )


def _check_single_objective(study: Study) -> None:
    if len(study.directions) > 1:
        raise ValueError(
            f"MetaSampler does not support multi-objective studies; study {study.study_name!r} "
            f"has {len(study.directions)} objectives"
        )


def _deciding_before(
    trial: FrozenTrial, others: Sequence[FrozenTrial], names: Collection[str]
) -> int:
    """Return how many trials, started just before this one, have no configuration yet."""
    now = trial.datetime_start or datetime.now()
    return sum(
        is_undecided(other, names)
        and other.number < trial.number
        and other.datetime_start is not None
        and now - other.datetime_start < _DECIDES_WITHIN
        for other in others
    )


def _fitted(configuration: Configuration, requested: Space) -> dict[str, Any]:
    """Return the one value requested, clipped and stepped; nothing where it does not fit."""
    ((name, distribution),) = requested.distributions.items()
    if name in configuration and contains(distribution, configuration[name]):
        # Unchanged: on its way through the unit cube a number may lose its last digit.
        internal = distribution.to_internal_repr(configuration[name])
        return {name: distribution.to_external_repr(internal)}
    return requested.decode(requested.encode([configuration]))[0]


def _stored_metafeatures(study: Study) -> dict[str, float]:
    return metafeatures_in(study_attribute(study, TASK_ATTR))
