"""The surrogate of the present study, from its trials and what is known besides.

Fits are kept under the data that they were made from, so that workers and restarts agree.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch

from metahpo.similarity import agreement
from metahpo.suggest.aligned_history import Past
from metahpo.surrogate.cache import Cache
from metahpo.surrogate.gp.past_models import PastModels
from metahpo.surrogate.gp.transfer import Fitted, build, fit_parameters
from metahpo.surrogate.mixture import Component, Surrogate, misleads, mix
from metahpo.surrogate.neural.neural_model import EncodedPast, NeuralModel, encode_past
from metahpo.surrogate.neural.neural_process import NeuralProcess
from metahpo.surrogate.neural.pretrained import default_weights, load_weights
from metahpo.surrogate.study_arrays import Study
from metahpo.tasks.alignment import identity_of
from metahpo.tasks.space import Array, Space

# Hyperparameters are fitted anew when a study has grown by this factor.
REFIT_GROWTH = 1.1
REFIT_ALWAYS_UNTIL = 10
# The last trials whose densities are evidence for or against the network: each costs a prediction
# once.
EVIDENCE = 100
# The first trials whose densities are evidence for or against the past: later on it hardly matters
# to the network.
PAST_EVIDENCE = 50
# Past tasks that a network is checked on, and the share of pairs by which it may be behind.
CHECKED = 6
TOLERANCE = 0.03
# Share of hyperparameters that spaces much like each other have in common. At 0.75 (the examples'
# networks beside the funnel-shaped ones trained on) a network can be worse than the past.
ALIKE = 0.8
# Share of a space's hyperparameters that a network has seen, below which it is no help before the
# study has trials. With a third of them it began better than well-spread trials did (xgboost and
# glmnet, by a network trained on neither), with none of them worse.
FAMILIAR = 0.33
# Fewer names than this are no sign of a learner.
LEAST_SHARED = 3
# Names of surrogates; any other is a file of weights.
GAUSSIAN, NEURAL = "gp", "neural"


def neural_surrogate(
    study: Study, past: Past, network: NeuralProcess, *, transfer: bool = True, trust: bool = True
) -> Surrogate:
    """A pretrained network, weighed against the study's own trials.

    It predicts each trial from the ones before with the past tasks and without. Where it does
    better without, the past misleads, and is left out of its context.

    Args:
        study: The study, which may have no trial yet.
        past: Past tasks, if there are any.
        network: Ready to predict.
        transfer: Whether the past is looked at.
        trust: Whether the network is weighed at all.
    """
    encoded = _encoded_past(past, network) if transfer else None
    informed = _neural(study, past, network, encoded)
    if not trust or not len(study.values):
        return mix(informed, None)
    misled = encoded is not None and _is_misled(study, past, network, encoded)
    if misled:
        informed = _neural(study, past, network, None)
    X = study.space.features(study.points)
    nothing = np.empty(0)
    fitted = _fitted(study, X, None, nothing, informed=True)
    owner = study.space.feature_owner
    surrogate = build(X, study.values, owner, None, nothing, fitted, informed=informed)
    return replace(surrogate, trust=0.0) if misled else surrogate


def _is_misled(study: Study, past: Past, network: NeuralProcess, encoded: EncodedPast) -> bool:
    """Whether the network does better without the past tasks."""
    early = range(min(len(study.values), PAST_EVIDENCE))
    with_past, without = (
        _log_densities(study, past, network, read, early) for read in (encoded, None)
    )
    return misleads(with_past, without)


def gaussian_surrogate(
    study: Study, past: Past, *, transfer: bool = True, trust: bool = True
) -> Surrogate:
    """Gaussian processes with and without the past.

    Args:
        study: The study, with one trial at least.
        past: Past tasks, if there are any.
        transfer: Whether the past is looked at.
        trust: Whether its model is weighed at all.
    """
    X = study.space.features(study.points)
    models, rho = past.models if transfer else None, past.relevance
    fitted = _fitted(study, X, models, rho)
    if not trust and fitted.transfer is not None:
        fitted = replace(fitted, target=None)
    return build(X, study.values, study.space.feature_owner, models, rho, fitted)


def knows(network: NeuralProcess, space: Space) -> bool:
    """Whether a network was trained on a space much like this one, by its hyperparameters."""
    names = frozenset(map(identity_of, space))
    return any(
        len(names & other) >= max(LEAST_SHARED, ALIKE * len(names | other))
        for other in network.learners
    )


def is_familiar(network: NeuralProcess, space: Space) -> bool:
    """Whether a network has seen many of a space's hyperparameters, in whatever learners.

    Less than ``knows``: enough for a better guess than none, not to do without a check.
    """
    seen = frozenset().union(*network.learners)
    shared = sum(identity_of(name) in seen for name in space)
    return shared > 0 and shared >= FAMILIAR * len(space)


def suits(past: Past, network: NeuralProcess) -> bool:
    """Whether a network knows the learner that a history is of.

    Each of some past tasks is predicted without any of its trials, by the network that reads the
    others, and by the mean of the others' models. A network that was trained on such a learner
    ranks configurations at least as well; one that was not is far behind.

    Args:
        past: Past tasks; of fewer than two nothing can be said.
        network: Ready to predict.
    """
    if past.models is None or len(past.tasks) < 2:
        return False

    def check() -> tuple[bool, NeuralProcess]:
        return bool(_lead(past, network) >= -TOLERANCE), network

    # The network is kept beside: its id stays its.
    return _suited.get((past.serial, id(network)), check)[0]


def _lead(past: Past, network: NeuralProcess) -> float:
    """By how much the network orders more pairs of trials rightly than past tasks do."""
    encoded = _encoded_past(past, network)
    assert past.models is not None
    leads = []
    nothing = np.empty((0, len(past.space))), np.empty(0)
    for index in np.argsort(-past.relevance, kind="stable")[:CHECKED]:
        task = past.models.tasks[index]
        X = past.space.features(task.points)
        others = np.delete(past.models.predict(X), index, axis=1).mean(axis=1)
        model = NeuralModel(
            network, past.space, *nothing, encoded.without(index) if encoded else None
        )
        with torch.no_grad():
            mean = model.mean_and_variance(torch.as_tensor(X))[0].numpy()
        right = agreement(task.values, np.stack([mean, others], axis=1))
        leads.append(right[0] - right[1])
    return float(np.mean(leads))


# ---- Gaussian processes --------------------------------------------------------------------


def _fitted(
    study: Study, X: Array, models: PastModels | None, rho: Array, *, informed: bool = False
) -> Fitted:
    """Hyperparameters fitted to the study's first trials, as many as the schedule says.

    A fit serves until the study has grown by a tenth. It depends on those first trials alone,
    so that a restarted or second worker, whose cache is empty, comes to the same numbers.
    """
    count, owner = _scheduled(len(X)), study.space.feature_owner
    X, values = X[:count], study.values[:count]
    key = (id(models), informed, owner, rho.tobytes(), X.tobytes(), values.tobytes())

    def fit() -> tuple[Fitted, PastModels | None]:
        # The models are kept beside the fit: their id stays theirs.
        return fit_parameters(X, values, owner, models, rho, informed=informed), models

    return _fits.get(key, fit)[0]


def _scheduled(count: int) -> int:
    """The largest number of the refitting schedule that is at most ``count``."""
    scheduled = min(count, REFIT_ALWAYS_UNTIL)
    while (following := int(np.ceil(scheduled * REFIT_GROWTH))) <= count:
        scheduled = following
    return scheduled


_fits: Cache[tuple[Fitted, PastModels | None]] = Cache(16)


# ---- the pretrained network ----------------------------------------------------------------


def network_named(surrogate: str) -> NeuralProcess:
    """The pretrained network.

    Args:
        surrogate: ``"neural"`` for the one that comes with the package, or a file of weights.

    Raises:
        WeightsError: There are no such weights, or the file holds others.
        OSError: It cannot be read.
    """
    path = default_weights() if surrogate == NEURAL else Path(surrogate)
    changed = path.stat().st_mtime_ns if path.is_file() else None
    return _networks.get((path, changed), lambda: load_weights(path))


def _encoded_past(past: Past, network: NeuralProcess) -> EncodedPast | None:
    def encode() -> tuple[EncodedPast | None, NeuralProcess]:
        return encode_past(network, past.tasks, past.space, past.relevance), network

    return _encoded.get((past.serial, id(network)), encode)[0]


def _neural(
    study: Study, past: Past, network: NeuralProcess, encoded: EncodedPast | None
) -> Component:
    count = len(study.values)
    last = range(max(0, count - EVIDENCE), count)
    densities = _log_densities(study, past, network, encoded, last)
    model = _model(study, past, network, encoded, count)
    return Component(1.0, model, model.warp, densities, True, model.knows_unit)


def _log_densities(
    study: Study, past: Past, network: NeuralProcess, encoded: EncodedPast | None, rows: range
) -> Array:
    """n, of each trial's value given the ones before it; NaN for rows that are not asked for."""
    X, digests = study.space.features(study.points), _digests(study)

    def density_of(row: int) -> tuple[float, NeuralProcess]:
        at = slice(row, row + 1)
        model = _model(study, past, network, encoded, row)
        return float(model.log_densities(X[at], study.values[at])[0]), network

    densities = np.full(len(X), np.nan)
    for row in rows:
        key = past.serial, id(network), encoded is None, digests[row + 1]
        densities[row] = _densities.get(key, partial(density_of, row))[0]
    return densities


def _model(
    study: Study, past: Past, network: NeuralProcess, encoded: EncodedPast | None, count: int
) -> NeuralModel:
    """The network that knows the first trials, as many as ``count``."""
    trials = study.points[:count], study.values[:count]
    key = past.serial, id(network), encoded is None, _digests(study)[count]
    return _models.get(key, lambda: NeuralModel(network, study.space, *trials, encoded))


def _digests(study: Study) -> list[bytes]:
    """Of the first 0, 1, ... trials: they tell studies apart that begin alike."""
    digest = blake2b(digest_size=16)
    digests = [digest.digest()]
    for point, value in zip(study.points, study.values, strict=True):
        digest.update(point.tobytes() + value.tobytes())
        digests.append(digest.digest())
    return digests


_suited: Cache[tuple[bool, NeuralProcess]] = Cache(8)
_networks: Cache[NeuralProcess] = Cache(4)
_encoded: Cache[tuple[EncodedPast | None, NeuralProcess]] = Cache(4)
# The model of all but the last trials serves once more, for the density of the next one; with the
# past and without.
_models: Cache[NeuralModel] = Cache(16)
# Each trial's log density given the ones before it.
_densities: Cache[tuple[float, NeuralProcess]] = Cache(2048)
