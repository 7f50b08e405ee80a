"""The Gaussian processes of a study: one that learns from past tasks, and a target-only one.

The target-only one never sees the past. Their weights (``metahpo.surrogate.mixture``) follow from
the marginal likelihood; hyperparameters are those fitted to most of the values, for both alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metahpo.settings import PolicySettings, RefitSettings
from metahpo.surrogate.aligned_history import AlignedHistory
from metahpo.surrogate.gp.closed_form import ClosedFormGP, Kernel, Prior
from metahpo.surrogate.gp.gp_surrogate import GPSurrogate
from metahpo.surrogate.gp.kernel import CONSTANT_VARIANCE, Data, Hyperparameters, fit
from metahpo.surrogate.gp.past_models import PastModels
from metahpo.surrogate.gp.transfer import (
    OFFSET_VARIANCE,
    TransferParameters,
    contradiction,
    fit_transfer,
)
from metahpo.surrogate.mixture import Mixture, mix
from metahpo.surrogate.scores import Warp, standardising_warp, tells_unit
from metahpo.surrogate.study_arrays import StudyArrays
from metahpo.surrogate.study_context import context_rows
from metahpo.tasks.space import Array, Space

# Fits of so many kinds and prefixes of a study are kept.
KEPT_FITS = 16


class GaussianFamily:
    """See ``metahpo.surrogate.contract.SurrogateFamily``."""

    def is_informed(self, space: Space, settings: PolicySettings) -> bool:
        """Never: without trials and history its prior is the same everywhere."""
        return False

    def fit(
        self, study: StudyArrays, history: AlignedHistory, settings: PolicySettings
    ) -> Mixture:
        """Gaussian processes with and without the past.

        Raises:
            numpy.linalg.LinAlgError: A covariance cannot be factorised.
        """
        if not (history.tasks and settings.transfer):
            return mix(None, target_only(study, history, settings), settings.trust)
        informed = _transferred(study, history, settings)
        weighed = settings.trust.weigh and _has_own_evidence(study, settings)
        if not weighed:
            return mix(informed, None, settings.trust)
        rows = context_rows(study, history, settings.context, len(study.values))
        expected = past_models(history).predict(study.points[rows]) @ history.relevance
        against = contradiction(study.values[rows], expected)
        return mix(informed, target_only(study, history, settings), settings.trust, against)


def past_models(history: AlignedHistory) -> PastModels:
    """Models of the past tasks, made when first needed: a study starts without them."""
    return history.remember("models", None, lambda: PastModels(history.tasks, history.features))


def target_beside_informed(
    study: StudyArrays, history: AlignedHistory, settings: PolicySettings
) -> GPSurrogate | None:
    """The target-only process beside an informed model, which few trials can do without.

    Returns:
        None below ``settings.trust.target_only_from`` trials, and where all values agree: nothing
        shows then what an improvement would be worth to a model of these values alone.
    """
    if not _has_own_evidence(study, settings):
        return None
    return target_only(study, history, settings)


def target_only(
    study: StudyArrays, history: AlignedHistory, settings: PolicySettings
) -> GPSurrogate:
    """The Gaussian process of the study's trials alone, of which there is one at least."""
    rows = context_rows(study, history, settings.context, len(study.values))
    warp = standardising_warp(study.values[rows])
    hyperparameters = _target_hyperparameters(study, history, settings)
    kernel = Kernel(
        hyperparameters.feature_lengthscales(history.features.owner),
        hyperparameters.signal,
        hyperparameters.noise,
        CONSTANT_VARIANCE,
    )
    model, log_densities = _model(study, history, rows, warp, kernel)
    return GPSurrogate(
        model,
        history.features,
        warp,
        log_densities,
        settings.search.effort,
        tells_unit(study.values),
    )


def _model(
    study: StudyArrays,
    history: AlignedHistory,
    rows: NDArray[np.intp],
    warp: Warp,
    kernel: Kernel,
    prior: Prior | None = None,
) -> tuple[ClosedFormGP, Array]:
    """The process given some of the trials, and ``n`` log densities of values, NaN of others."""
    points, values = study.points[rows], study.values[rows]
    model = ClosedFormGP(history.features.array(points), warp.scores(values), kernel, prior)
    log_densities = np.full(len(study.values), np.nan)
    log_densities[rows] = model.log_densities + warp.log_slopes(values)
    if len(rows) < len(study.values):
        # The first one that the model sees, it could not predict.
        log_densities[rows[0]] = np.nan
    return model, log_densities


def _has_own_evidence(study: StudyArrays, settings: PolicySettings) -> bool:
    """Whether a target-only model has something to say beside an informed one."""
    fitted_to = prefix(len(study.values), settings.refit)
    return fitted_to >= settings.trust.target_only_from and tells_unit(study.values)


def _transferred(
    study: StudyArrays, history: AlignedHistory, settings: PolicySettings
) -> GPSurrogate:
    past, parameters = past_models(history), _transfer_parameters(study, history, settings)
    rows = context_rows(study, history, settings.context, len(study.values))
    warp = parameters.warp
    kernel = Kernel(past.lengthscales, parameters.signal, parameters.noise, OFFSET_VARIANCE)
    prior = Prior(past, history.relevance, parameters.kappa)
    model, log_densities = _model(study, history, rows, warp, kernel, prior)
    return GPSurrogate(
        model,
        history.features,
        warp,
        log_densities,
        settings.search.effort,
        trust=1.0,
    )


# ---- fits, kept ----------------------------------------------------------------------------


def _target_hyperparameters(
    study: StudyArrays, history: AlignedHistory, settings: PolicySettings
) -> Hyperparameters:
    count = prefix(len(study.values), settings.refit)

    def fitted() -> Hyperparameters:
        rows = _fitted_rows(study, history, settings, count)
        X, values = history.features.array(study.points[rows]), study.values[rows]
        scores = standardising_warp(values).scores(values)
        return fit([Data(X, scores)], history.features.owner)

    return history.remember("target fit", study.digests[count], fitted, most=KEPT_FITS)


def _transfer_parameters(
    study: StudyArrays, history: AlignedHistory, settings: PolicySettings
) -> TransferParameters:
    count = prefix(len(study.values), settings.refit)

    def fitted() -> TransferParameters:
        rows = _fitted_rows(study, history, settings, count)
        points, values = study.points[rows], study.values[rows]
        return fit_transfer(points, values, past_models(history), history.relevance)

    return history.remember("transfer fit", study.digests[count], fitted, most=KEPT_FITS)


def _fitted_rows(
    study: StudyArrays, history: AlignedHistory, settings: PolicySettings, count: int
) -> NDArray[np.intp]:
    """The trials, among the first ones, that hyperparameters are fitted to.

    Of a long study every second one that the model itself is given: a fit takes many
    factorisations of the covariance, and a few hyperparameters are known from fewer trials.
    """
    rows = context_rows(study, history, settings.context, count)
    return rows if len(rows) == count else rows[::2]


def prefix(count: int, refit: RefitSettings) -> int:
    """How many of a study's first trials hyperparameters are fitted to.

    A fit serves until the study has grown by ``refit.growth``. It depends on these first trials
    alone, so that a restarted or second worker, whose cache is empty, comes to the same numbers.
    """
    scheduled = min(count, refit.always_until)
    while 0 < scheduled < (following := int(np.ceil(scheduled * refit.growth))) <= count:
        scheduled = following
    return scheduled
