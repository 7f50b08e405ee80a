"""Statistics of the columns of a data set: moments, correlations, principal components.

Notation: n rows, p columns of the sample; q of them are numeric.
"""

from __future__ import annotations

import math

import numpy as np

from metahpo.metafeatures.arrays import Array
from metahpo.metafeatures.sample import Sample
from metahpo.metafeatures.summaries import mean, ratio, summary

# Absolute correlation from which two columns count as correlated, as in pymfe.
CORRELATED = 0.5
# Length of the whiskers of a box plot, in interquartile ranges; values beyond are outliers.
WHISKERS = 1.5
# Fraction of the variance that the counted principal components explain.
EXPLAINED = 0.95
# Deviation, relative to the mean, up to which a column is constant except for rounding.
ROUNDING = 1e-14


def statistics_features(sample: Sample) -> dict[str, float]:
    """Moments, correlations, outliers and repeated values of the columns."""
    N = sample.X[:, ~sample.categorical]
    skewness, kurtosis = moments(N)
    correlations = _correlations(N)
    return {
        **summary("skewness", skewness),  # skewness
        **summary("kurtosis", kurtosis),  # kurtosis
        **summary("correlation", correlations),  # cor
        "correlated_share": mean(correlations >= CORRELATED),  # nr_cor_attr
        "outlier_columns_share": _outlier_share(N),  # nr_outliers / nr_num
        **summary("repetition", _repetition(sample.X)),  # sparsity
        **summary("scale", np.log10(np.nanstd(N, axis=0)) if N.size else np.empty(0)),
    }


def principal_features(sample: Sample) -> dict[str, float]:
    """Variance explained by the principal components, and the skewness of the first."""
    N = sample.X[:, ~sample.categorical]
    standard = _standardised(N)
    filled = standard * np.nanstd(N, axis=0) if N.size else standard
    shares = _variance_shares(standard)
    return {
        "pca_dimensions_share": ratio(_explaining(_variance_shares(filled)), N.shape[1]),  # t4
        "pca_standardised_share": ratio(_explaining(shares), N.shape[1]),
        "pca_first_share": shares[0] if len(shares) else math.nan,
        "pca_first_skewness": mean(moments(_first_component(standard))[0]),
    }


def moments(N: Array) -> tuple[Array, Array]:
    """Return skewness and excess kurtosis per column, from the unbiased deviation (pymfe's b1).

    Args:
        N: `n x q`, NaN where missing.

    Returns:
        Two arrays `q`; NaN for a constant column.
    """
    count = (~np.isnan(N)).sum(axis=0)
    means = np.where(np.isnan(N), 0.0, N).sum(axis=0) / count
    centred = np.where(np.isnan(N), 0.0, N - means)
    second, third, fourth = ((centred**power).sum(axis=0) / count for power in (2, 3, 4))
    second = np.where(second > (ROUNDING * np.abs(means)) ** 2, second, np.nan)
    shrink = 1.0 - 1.0 / count
    skewness = third / second**1.5 * shrink**1.5
    return skewness, fourth / second**2 * shrink**2 - 3.0


# ---- columns -------------------------------------------------------------------------------


def _correlations(N: Array) -> Array:
    """Absolute correlations of all pairs of columns; NaN if one of them is constant."""
    standard = _standardised(N)
    varied = standard.std(axis=0) > 0
    gram = np.abs(standard.T @ standard) / max(len(N), 1)
    gram = np.where(np.outer(varied, varied), gram, np.nan)
    return gram[np.tril_indices(len(gram), k=-1)]


def _standardised(N: Array) -> Array:
    """Columns of mean 0 and deviation 1, with missing values replaced by the mean."""
    count = np.maximum((~np.isnan(N)).sum(axis=0), 1)
    means = np.where(np.isnan(N), 0.0, N).sum(axis=0) / count
    centred = np.where(np.isnan(N), 0.0, N - means)
    spread = centred.std(axis=0)
    varies = spread > ROUNDING * np.abs(means)
    return np.where(varies, centred / np.where(varies, spread, 1.0), 0.0)


def _outlier_share(N: Array) -> float:
    if not N.size:
        return math.nan
    known = N[:, ~np.isnan(N).all(axis=0)]
    low, first, third, high = np.nanpercentile(known, (0, 25, 75, 100), axis=0)
    reach = WHISKERS * (third - first)
    return mean((low < first - reach) | (high > third + reach))


def _repetition(X: Array) -> Array:
    """How often the values of a column repeat: 0 if all differ, 1 in a constant column."""
    if len(X) < 2:
        return np.empty(0)
    distinct = np.array([max(len(np.unique(column)), 1) for column in X.T])
    return (len(X) / distinct - 1.0) / (len(X) - 1.0)


# ---- principal components ------------------------------------------------------------------


def _variance_shares(centred: Array) -> Array:
    """Fractions of the variance per principal component, descending."""
    if not centred.size:
        return np.empty(0)
    variances = np.linalg.eigvalsh(centred.T @ centred)[::-1]
    variances = np.maximum(variances, 0.0)[: min(centred.shape)]
    return variances / variances.sum() if variances.sum() > 0 else np.empty(0)


def _explaining(shares: Array) -> float:
    """Number of components that explain ``EXPLAINED`` of the variance."""
    if not len(shares):
        return math.nan
    return float(np.searchsorted(np.cumsum(shares), EXPLAINED, side="right") + 1)


def _first_component(standard: Array) -> Array:
    """Scores on the first principal component, `n x 1`."""
    if not standard.size:
        return np.empty((0, 1))
    direction = np.linalg.eigh(standard.T @ standard)[1][:, -1:]
    # The sign of an eigenvector is arbitrary; make its largest entry positive.
    return standard @ (direction * np.sign(direction[np.abs(direction).argmax(), 0]))
