"""The default family: the pretrained network where it fits, Gaussian processes elsewhere.

The network is one informed model, weighed against a Gaussian process of the study's own trials.
It stands back in two cases: where models of the past tasks predict these better than it does, and,
for past tasks in its context, where it predicts the study's trials better without them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from metahpo.settings import PolicySettings, TrustSettings
from metahpo.similarity import agreement
from metahpo.surrogate.aligned_history import AlignedHistory
from metahpo.surrogate.gp.gp_family import GaussianFamily, past_models, target_beside_informed
from metahpo.surrogate.mixture import Mixture, misleads, mix
from metahpo.surrogate.neural.neural_model import (
    EncodedPast,
    NeuralModel,
    encode_past,
    encoded_space,
)
from metahpo.surrogate.neural.neural_process import NeuralProcess
from metahpo.surrogate.neural.neural_surrogate import NeuralSurrogate
from metahpo.surrogate.neural.pretrained import default_weights, load_weights
from metahpo.surrogate.study_arrays import StudyArrays
from metahpo.surrogate.study_context import context_rows
from metahpo.tasks.alignment import identity_of
from metahpo.tasks.space import Array, Space

# The model of all but the last trial serves once more, for the density of the next one; with the
# past and without.
KEPT_MODELS = 16
# One number a trial.
KEPT_DENSITIES = 2048


def pretrained_family(weights: Path | None = None) -> PretrainedFamily:
    """The family of a network's weights, kept while the file does not change.

    Args:
        weights: A file that ``metahpo train surrogate`` wrote; None for the package's own.

    Raises:
        WeightsError: There are no such weights, or the file holds others.
        OSError: It cannot be read.
    """
    path = default_weights() if weights is None else weights
    return _family(path, path.stat().st_mtime_ns if path.is_file() else None)


@lru_cache(maxsize=4)
def _family(path: Path, changed: int | None) -> PretrainedFamily:
    return PretrainedFamily(load_weights(path))


class PretrainedFamily:
    """See ``metahpo.surrogate.contract.SurrogateFamily``.

    Args:
        network: Ready to predict.
    """

    def __init__(self, network: NeuralProcess) -> None:
        self.network = network
        self._gaussian = GaussianFamily()

    def is_informed(self, space: Space, settings: PolicySettings) -> bool:
        """Whether the network was trained on enough of the space's hyperparameters."""
        return shares_names(self.network, space, settings.trust)

    def fit(
        self, study: StudyArrays, history: AlignedHistory, settings: PolicySettings
    ) -> Mixture:
        """The network, or what takes its place.

        Raises:
            numpy.linalg.LinAlgError: A covariance cannot be factorised.
        """
        reads_past = bool(history.tasks) and settings.transfer
        # Without trials there is nothing to fit a Gaussian process to.
        if not (reads_past and len(study.values)) or self._fits_learner(history, settings):
            return self._network_mixture(study, history, settings)
        followed = self._gaussian.fit(study, history, settings)
        if followed.trust is None or followed.trust >= settings.trust.min_gp_trust:
            return followed
        # The surrogate of a study that never had a history.
        without = replace(settings, transfer=False)
        return replace(self._network_mixture(study, history, without), trust=0.0)

    def _fits_learner(self, history: AlignedHistory, settings: PolicySettings) -> bool:
        return trained_on(self.network, history.space, settings.trust) or beats_past_models(
            self.network, history, settings.trust
        )

    def _network_mixture(
        self, study: StudyArrays, history: AlignedHistory, settings: PolicySettings
    ) -> Mixture:
        """The network weighed against the study's own trials, without a past that misleads."""
        trust = settings.trust
        past = encoded_past(self.network, history) if settings.transfer else None
        if not trust.weigh or not len(study.values):
            return mix(self._surrogate(study, history, past, settings), None, trust)
        misled = past is not None and self._is_misled(study, history, past, settings)
        informed = self._surrogate(study, history, None if misled else past, settings)
        mixture = mix(informed, target_beside_informed(study, history, settings), trust)
        if misled:
            return replace(mixture, trust=0.0)
        # A network that reads no past tasks cannot be trusted with them.
        reads_none = past is None and settings.transfer and bool(history.tasks)
        return replace(mixture, trust=None) if reads_none else mixture

    def _is_misled(
        self,
        study: StudyArrays,
        history: AlignedHistory,
        past: EncodedPast,
        settings: PolicySettings,
    ) -> bool:
        """Whether the network predicts the first trials better without the past tasks."""
        early = range(min(len(study.values), settings.trust.past_evidence_trials))
        with_past = self._log_densities(study, history, past, early, settings)
        without_past = self._log_densities(study, history, None, early, settings)
        return misleads(with_past, without_past, settings.trust)

    def _surrogate(
        self,
        study: StudyArrays,
        history: AlignedHistory,
        past: EncodedPast | None,
        settings: PolicySettings,
    ) -> NeuralSurrogate:
        count = len(study.values)
        latest = range(max(0, count - settings.trust.evidence_trials), count)
        return NeuralSurrogate(
            self._model(study, history, past, count, settings),
            history.features,
            self._log_densities(study, history, past, latest, settings),
            np.empty(0) if past is None else history.relevance,
            settings.search,
        )

    def _log_densities(
        self,
        study: StudyArrays,
        history: AlignedHistory,
        past: EncodedPast | None,
        rows: range,
        settings: PolicySettings,
    ) -> Array:
        """``n``, of each trial's value given the ones before it; NaN for rows left out."""
        densities = np.full(len(study.values), np.nan)
        for row in rows:
            key = self, past is None, study.digests[row + 1]
            make = partial(self._log_density, study, history, past, row, settings)
            densities[row] = history.remember("log density", key, make, most=KEPT_DENSITIES)
        return densities

    def _log_density(
        self,
        study: StudyArrays,
        history: AlignedHistory,
        past: EncodedPast | None,
        row: int,
        settings: PolicySettings,
    ) -> float:
        model, at = self._model(study, history, past, row, settings), slice(row, row + 1)
        return float(model.log_densities(study.points[at], study.values[at])[0])

    def _model(
        self,
        study: StudyArrays,
        history: AlignedHistory,
        past: EncodedPast | None,
        count: int,
        settings: PolicySettings,
    ) -> NeuralModel:
        """The network conditioned on the first ``count`` trials, or some where they are many."""
        rows = context_rows(study, history, settings.context, count)
        trials = study.points[rows], study.values[rows]
        key = self, past is None, study.digests[count]
        encoded = history.remember(
            "encoded space", self, partial(encoded_space, self.network, history.space)
        )
        make = partial(NeuralModel, self.network, study.space, *trials, past, encoded=encoded)
        return history.remember("network model", key, make, most=KEPT_MODELS)


def encoded_past(network: NeuralProcess, history: AlignedHistory) -> EncodedPast | None:
    """The past tasks as the network's tokens; None for a network that reads none."""
    make = partial(encode_past, network, history.tasks, history.space, history.relevance)
    return history.remember("encoded past", network, make)


# ---- whether the network fits the learner --------------------------------------------------


def trained_on(network: NeuralProcess, space: Space, settings: TrustSettings) -> bool:
    """Whether a network was trained on a space much like this one, by its names."""
    names = frozenset(map(identity_of, space))
    return any(
        len(names & other)
        >= max(settings.min_shared_names, settings.same_learner * len(names | other))
        for other in network.learners
    )


def shares_names(network: NeuralProcess, space: Space, settings: TrustSettings) -> bool:
    """Whether a network was trained on many of a space's hyperparameters, in whatever learners.

    Less than ``trained_on``: enough for a better guess than none, not to do without a check.
    """
    seen = frozenset().union(*network.learners)
    shared = sum(identity_of(name) in seen for name in space)
    return shared > 0 and shared >= settings.familiar_share * len(space)


def beats_past_models(
    network: NeuralProcess, history: AlignedHistory, settings: TrustSettings
) -> bool:
    """Whether a network predicts past tasks as well as models of the other past tasks do.

    Each of some past tasks is predicted without any of its trials, by the network that reads the
    others, and by the mean of the others' models. A network that was trained on such a learner
    ranks configurations at least as well; one that was not is far behind.

    Args:
        network: Ready to predict.
        history: Past tasks; fewer than two are no evidence, and then it does not.
        settings: How many tasks are compared, and the tolerance.
    """
    if len(history.tasks) < 2:
        return False
    make = partial(_lead, network, history, settings)
    lead = history.remember("lead of network", (network, settings), make, most=4)
    return lead >= -settings.check_tolerance


def _lead(network: NeuralProcess, history: AlignedHistory, settings: TrustSettings) -> float:
    """By how much the network orders more pairs of trials rightly than past tasks do."""
    past, models = encoded_past(network, history), past_models(history)
    nothing = np.empty((0, len(history.space))), np.empty(0)
    leads = []
    for index in np.argsort(-history.relevance, kind="stable")[: settings.checked_tasks]:
        task = history.tasks[index]
        others = np.delete(models.predict(task.points), index, axis=1).mean(axis=1)
        model = NeuralModel(
            network, history.space, *nothing, past.without(index) if past else None
        )
        with torch.no_grad():
            mean = model.predictive(torch.as_tensor(task.points)).mean.numpy()
        right = agreement(task.values, np.stack([mean, others], axis=1))
        leads.append(right[0] - right[1])
    return float(np.mean(leads))
