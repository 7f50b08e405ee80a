"""Parameters of a Gaussian process with the past tasks for its prior, and when these are wrong.

It learns, besides its variances, how the present task's values map to scores (the two numbers of
a ``Warp``). A past that is wrong in a regular way, such as one with its sign turned, may keep its
weight: the tasks' own weights can be negative, and then it informs.

Notation: see ``closed_form.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.optimize import minimize

from metahpo.similarity import agreement
from metahpo.surrogate.gp.kernel import JITTER, matern52
from metahpo.surrogate.gp.past_models import PastModels
from metahpo.surrogate.scores import Warp
from metahpo.tasks.space import Array

# Log-normal priors as (mean, standard deviation) of the logarithm: of g's variance, of the
# noise and of kappa, whose 1 is the past tasks' own spread.
SIGNAL_PRIOR = (0.0, 0.7)
NOISE_PRIOR = (math.log(1e-2), 1.0)
KAPPA_PRIOR = (0.0, 0.7)
# The warp's centre carries the location; this is what is left to the constant.
OFFSET_VARIANCE = 0.25
# Log-variance bounds, in the order of the priors.
BOUNDS = ((math.log(1e-3), 2.5), (math.log(1e-5), 0.0), (math.log(1e-2), 2.0))
ITERATIONS = 15


@dataclass(frozen=True)
class TransferParameters:
    """Of the transferred model: variances of g, noise and weights, and the warp of the target."""

    signal: float
    noise: float
    kappa: float
    warp: Warp


def fit_transfer(points: Array, values: Array, past: PastModels, rho: Array) -> TransferParameters:
    """The most probable parameters, from the best of a few starts.

    Args:
        points: ``n x d`` trials, n at least 1.
        values: ``n``.
        past: Models of the past tasks.
        rho: ``t``, how much each past task matters beforehand; sums to 1.
    """
    evidence = _evidence(points, values, past, rho)
    starts = _starts(evidence)
    starts.sort(key=evidence.negative_log_posterior)
    if len(values) == 1:
        # One value shows its place on the prior mean and nothing else.
        return _parameters(evidence, starts[0])
    unit = evidence.log_unit
    log_scale = math.log(evidence.scale)
    units = (min(unit, log_scale) - 8.0, max(unit, log_scale) + 8.0)
    bounds = (*BOUNDS, units, (-30.0, 30.0))
    results = [
        minimize(
            evidence.negative_log_posterior,
            start,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": ITERATIONS},
        )
        for start in starts[: 2 if len(values) <= 20 else 1]
    ]
    return _parameters(evidence, min(results, key=lambda result: result.fun).x)


def contradiction(values: Array, expected: Array) -> float:
    """What is taken from the log odds where the past ranks the trials the wrong way round.

    The transferred model can turn a contradicted past upside down and still explain the trials;
    but a past that is wrong about which half of the space is good is little help with where in
    the other half the best is. The square of Kendall's tau in standard deviations (Kendall
    1970, "Rank correlation methods", with ties among the values), if it is negative; nothing
    otherwise.

    Args:
        values: ``n``.
        expected: ``n``, the past tasks' weighted mean prediction.
    """
    n, ties = len(values), np.unique(values, return_counts=True)[1].astype(float)
    untied = (n * (n - 1) - float((ties * (ties - 1)).sum())) / 2.0
    if not untied:
        return 0.0
    tau = 2.0 * float(agreement(values, expected[:, None])[0]) - 1.0
    tied = float((ties * (ties - 1) * (2 * ties + 5)).sum())
    deviation = math.sqrt((n * (n - 1) * (2 * n + 5) - tied) / 18.0) / untied
    return min(tau / deviation, 0.0) ** 2


@dataclass(frozen=True, eq=False)
class _Evidence:
    """Everything about the present trials that does not change while fitting.

    Attributes:
        values: ``n``.
        mean: ``n``, of the past tasks' predictions.
        spread: ``n x n``, their second moment: the prior covariance at kappa = 1.
        correlations: ``n x n``, of g.
        log_unit: The past tasks' usual unit, a weak guess at the present one.
        location: The mean value, which the centre is measured from.
        scale: What the centre is measured in.
    """

    values: Array
    mean: Array
    spread: Array
    correlations: Array
    log_unit: float
    location: float
    scale: float

    def warp(self, theta: Array) -> Warp:
        return Warp(self.location + self.scale * float(theta[4]), math.exp(float(theta[3])))

    def negative_log_posterior(self, theta: Array) -> float:
        """Of (log signal, log noise, log kappa, log unit, centre)."""
        signal, noise, kappa = np.exp(theta[:3])
        gram = signal * self.correlations + kappa * self.spread + OFFSET_VARIANCE
        gram[np.diag_indices_from(gram)] += noise + JITTER
        try:
            factor = cholesky(gram, lower=True, check_finite=False)
        except LinAlgError:
            return 1e10
        warp = self.warp(theta)
        residual = warp.scores(self.values) - self.mean
        white = solve_triangular(factor, residual, lower=True, check_finite=False)
        evidence = -0.5 * float(white @ white) - float(np.log(np.diag(factor)).sum())
        return self._penalty(theta) - evidence - float(warp.log_slopes(self.values).sum())

    def _penalty(self, theta: Array) -> float:
        penalty = sum(
            0.5 * ((x - mean) / deviation) ** 2
            for x, (mean, deviation) in zip(
                theta, (SIGNAL_PRIOR, NOISE_PRIOR, KAPPA_PRIOR), strict=False
            )
        )
        # Student's t with three degrees of freedom: the present unit may be quite another.
        return float(penalty) + 2.0 * math.log1p((theta[3] - self.log_unit) ** 2 / 3.0)


def _evidence(points: Array, values: Array, past: PastModels, rho: Array) -> _Evidence:
    predictions, X = past.predict(points), past.features.array(points)
    log_unit = float(np.median([math.log(warp.unit) for warp in past.warps]))
    return _Evidence(
        values=values,
        mean=predictions @ rho,
        spread=(predictions * rho) @ predictions.T,
        correlations=matern52(X, X, past.lengthscales),
        log_unit=log_unit,
        location=float(values.mean()),
        scale=float(values.std()) or math.exp(log_unit),
    )


def _starts(evidence: _Evidence) -> list[Array]:
    """Units from the past and from the spread of the values; centres that match quantiles."""
    log_scale = math.log(evidence.scale)
    single = len(evidence.values) == 1
    units = [evidence.log_unit]
    if not single:
        units += [log_scale + shift for shift in (0.3, -1.0, 1.0)]
    variances = [SIGNAL_PRIOR[0], NOISE_PRIOR[0], KAPPA_PRIOR[0]]
    starts = []
    for log_unit in units:
        for quantile in (0.5,) if single else (0.1, 0.5, 0.9):
            value = float(np.quantile(evidence.values, quantile))
            score = np.quantile(evidence.mean, quantile, keepdims=True)
            centre = value - float(Warp(0.0, math.exp(log_unit)).values(score)[0])
            position = np.clip((centre - evidence.location) / evidence.scale, -30.0, 30.0)
            starts.append(np.array([*variances, log_unit, position]))
    return starts


def _parameters(evidence: _Evidence, theta: Array) -> TransferParameters:
    signal, noise, kappa = (float(v) for v in np.exp(theta[:3]))
    return TransferParameters(signal, noise, kappa, evidence.warp(theta))
