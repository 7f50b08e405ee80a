"""Meta-features of a data set: sizes, classes, missing values, statistics, information, PCA.

Where pymfe defines the same feature, the value is pymfe's (its name stands behind each one;
Alcobaca et al. 2020, "MFE: Towards reproducible meta-feature extraction", and Rivolli et al.
2022, "Meta-features for meta-learning"). What cannot be computed is NaN.

Notation: n rows, p columns, of the sample.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metahpo.metafeatures.landmarks import landmarks
from metahpo.metafeatures.sample import EMPTY, Array, Sample, draw

# An absolute correlation from which two columns say the same, in part (pymfe's).
CORRELATED = 0.5
# Whiskers of a box plot, in interquartile ranges.
WHISKERS = 1.5
# Share of the variance that the counted principal components explain.
EXPLAINED = 0.95
# What pymfe adds to the cells of a contingency table.
EMPTY_CELL = 1e-8


def dataset_metafeatures(
    X: Any,
    y: Any = None,
    *,
    regression: bool | None = None,
    landmarkers: bool = True,
    seed: int = 0,
) -> dict[str, float]:
    """What describes a data set.

    Pass training data only: targets are used, so that those of test rows would leak.

    Args:
        X: n x p; see ``metahpo.metafeatures.extract``.
        y: n classes or numbers.
        regression: Whether y is a quantity; None to tell by its values.
        landmarkers: Whether to train the cheap models.
        seed: Of the choice of rows and columns of large data.

    Returns:
        Always the same names; NaN for what has no value on this data.

    Raises:
        TypeError: For an ``X`` of a type that is no data set.
        ValueError: Where ``X`` and ``y`` differ in length.
    """
    sample = draw(X, y, regression=regression, seed=seed)
    groups = [*_GROUPS, landmarks] if landmarkers else _GROUPS
    features: dict[str, float] = {}
    with warnings.catch_warnings():
        # Means of nothing, overflows: NaN is the answer.
        warnings.simplefilter("ignore", RuntimeWarning)
        for group in groups:
            features |= _guarded(group, sample)
    return {f"dataset.{name}": _finite(value) for name, value in features.items()}


def _guarded(group: Callable[[Sample], dict[str, float]], sample: Sample) -> dict[str, float]:
    """A group's features; NaN under the same names where the data is too odd for it."""
    try:
        return group(sample)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError, IndexError):
        return dict.fromkeys(group(EMPTY), math.nan)


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else math.nan


# ---- sizes, types, classes -----------------------------------------------------------------


def _general(sample: Sample) -> dict[str, float]:
    rows, columns = sample.rows, sample.columns
    X = sample.X
    missing = np.isnan(X)
    count = max(X.shape[1], 1)
    share = int(sample.categorical.sum()) / count if X.shape[1] else math.nan
    distinct = np.array([len(np.unique(c[~np.isnan(c)])) for c in X.T])
    return {
        "rows": rows,  # nr_inst
        "columns": columns,  # nr_attr
        "rows_per_column": _ratio(rows, columns),  # inst_to_attr
        "columns_per_row": _ratio(columns, rows),  # attr_to_inst
        "categorical_columns": share * columns,  # nr_cat
        "numeric_columns": (1.0 - share) * columns,  # nr_num
        "categorical_share": share,
        "binary_share": _mean(distinct == 2),  # nr_bin / nr_attr
        "constant_share": _mean(distinct <= 1),
        "distinct_share": _mean(distinct / max(len(X), 1)),
        "missing_share": _mean(missing),
        "missing_columns": _mean(missing.any(axis=0)),
        "missing_rows": _mean(missing.any(axis=1)),
        "zero_share": _mean(X[~missing] == 0),
    }


def _classes(sample: Sample) -> dict[str, float]:
    counts = sample.class_counts
    shares = counts / counts.sum() if len(counts) else np.empty(0)
    several = len(counts) > 1
    ratio = (shares / (1.0 - shares)).sum() * (len(counts) - 1) / len(counts) if several else 0.0
    return {
        "classes": float(len(counts)) if len(counts) else math.nan,  # nr_class
        **_summary("class_share", shares),  # freq_class
        "class_imbalance": 1.0 - 1.0 / ratio if several else math.nan,  # c2
        "class_entropy": _entropy(shares) if len(counts) else math.nan,  # class_ent
        "is_regression": float(sample.regression) if sample.y is not None else math.nan,
    }


def _target(sample: Sample) -> dict[str, float]:
    """The shape of a target that is a quantity."""
    known = np.empty((0, 1))
    if sample.regression and sample.y is not None:
        known = sample.y[~np.isnan(sample.y)][:, None]
    skewness, kurtosis = _moments(known)
    return {
        "target_skewness": _mean(skewness),
        "target_kurtosis": _mean(kurtosis),
        "target_distinct_share": _ratio(len(np.unique(known)), len(known)),
    }


# ---- statistics of the numeric columns -----------------------------------------------------


def _statistics(sample: Sample) -> dict[str, float]:
    N = sample.X[:, ~sample.categorical]
    skewness, kurtosis = _moments(N)
    correlations = _correlations(N)
    return {
        **_summary("skewness", skewness),  # skewness
        **_summary("kurtosis", kurtosis),  # kurtosis
        **_summary("correlation", correlations),  # cor
        "correlated_share": _mean(correlations >= CORRELATED),  # nr_cor_attr
        "outlier_columns_share": _outlier_share(N),  # nr_outliers / nr_num
        **_summary("repetition", _repetition(sample.X)),  # sparsity
        **_summary("scale", np.log10(np.nanstd(N, axis=0)) if N.size else np.empty(0)),
    }


def _moments(N: Array) -> tuple[Array, Array]:
    """Skewness and excess kurtosis of each column, from the unbiased deviation (pymfe's b1)."""
    count = (~np.isnan(N)).sum(axis=0)
    mean = np.where(np.isnan(N), 0.0, N).sum(axis=0) / count
    centred = np.where(np.isnan(N), 0.0, N - mean)
    second, third, fourth = ((centred**power).sum(axis=0) / count for power in (2, 3, 4))
    # A column that is constant up to rounding has no shape.
    second = np.where(second > (1e-14 * np.abs(mean)) ** 2, second, np.nan)
    shrink = 1.0 - 1.0 / count
    skewness = third / second**1.5 * shrink**1.5
    return skewness, fourth / second**2 * shrink**2 - 3.0


def _correlations(N: Array) -> Array:
    """Absolute correlations of all pairs of columns; NaN with a constant column."""
    standard = _standardised(N)
    varied = standard.std(axis=0) > 0
    gram = np.abs(standard.T @ standard) / max(len(N), 1)
    gram = np.where(np.outer(varied, varied), gram, np.nan)
    return gram[np.tril_indices(len(gram), k=-1)]


def _standardised(N: Array) -> Array:
    """Columns of mean 0 and deviation 1, means in place of missing values."""
    count = np.maximum((~np.isnan(N)).sum(axis=0), 1)
    mean = np.where(np.isnan(N), 0.0, N).sum(axis=0) / count
    centred = np.where(np.isnan(N), 0.0, N - mean)
    spread = centred.std(axis=0)
    telling = spread > 1e-14 * np.abs(mean)
    return np.where(telling, centred / np.where(telling, spread, 1.0), 0.0)


def _outlier_share(N: Array) -> float:
    if not N.size:
        return math.nan
    known = N[:, ~np.isnan(N).all(axis=0)]
    low, first, third, high = np.nanpercentile(known, (0, 25, 75, 100), axis=0)
    reach = WHISKERS * (third - first)
    return _mean((low < first - reach) | (high > third + reach))


def _repetition(X: Array) -> Array:
    """How often a column's values repeat: 0 where all differ, 1 in a constant column."""
    if len(X) < 2:
        return np.empty(0)
    distinct = np.array([max(len(np.unique(column)), 1) for column in X.T])
    return (len(X) / distinct - 1.0) / (len(X) - 1.0)


# ---- principal components ------------------------------------------------------------------


def _principal(sample: Sample) -> dict[str, float]:
    N = sample.X[:, ~sample.categorical]
    standard = _standardised(N)
    filled = standard * np.nanstd(N, axis=0) if N.size else standard
    shares = _variance_shares(standard)
    return {
        "pca_dimensions_share": _ratio(_explaining(_variance_shares(filled)), N.shape[1]),  # t4
        "pca_standardised_share": _ratio(_explaining(shares), N.shape[1]),
        "pca_first_share": shares[0] if len(shares) else math.nan,
        "pca_first_skewness": _mean(_moments(_first_component(standard))[0]),
    }


def _variance_shares(centred: Array) -> Array:
    """Shares of the variance of the principal components, in descending order."""
    if not centred.size:
        return np.empty(0)
    variances = np.linalg.eigvalsh(centred.T @ centred)[::-1]
    variances = np.maximum(variances, 0.0)[: min(centred.shape)]
    return variances / variances.sum() if variances.sum() > 0 else np.empty(0)


def _explaining(shares: Array) -> float:
    """How many components explain the share asked for."""
    if not len(shares):
        return math.nan
    return float(np.searchsorted(np.cumsum(shares), EXPLAINED, side="right") + 1)


def _first_component(standard: Array) -> Array:
    if not standard.size:
        return np.empty((0, 1))
    direction = np.linalg.eigh(standard.T @ standard)[1][:, -1:]
    # The sign of an eigenvector means nothing: its largest entry is made positive.
    return standard @ (direction * np.sign(direction[np.abs(direction).argmax(), 0]))


# ---- information ---------------------------------------------------------------------------


def _information(sample: Sample) -> dict[str, float]:
    codes = _discretised(sample)
    own = np.array([_entropy(np.bincount(column)) for column in codes])
    classes = _class_codes(sample)
    if classes is None or not len(codes):
        about = separation = np.empty(0)
        class_entropy = math.nan
    else:
        class_entropy = _entropy(np.bincount(classes))
        joint = np.array([_joint_entropy(column, classes) for column in codes])
        about = own + class_entropy - joint
        separation = _separation(sample.X[:, ~sample.categorical], classes)
    return {
        **_summary("column_entropy", own),  # attr_ent
        **_summary("mutual_information", about),  # mut_inf
        "equivalent_columns": _ratio(len(about) * class_entropy, about.sum()),  # eq_num_attr
        "noise_ratio": _ratio(own.sum() - about.sum(), about.sum()),  # ns_ratio
        "relative_information": _ratio(about.max(initial=0.0), class_entropy),
        **_summary("fisher", separation),  # f1
    }


def _class_codes(sample: Sample) -> NDArray[np.int_] | None:
    """Classes as whole numbers, a missing one as another class; None where there are none."""
    if sample.y is None or sample.regression or not len(sample.y):
        return None
    return np.unique(np.nan_to_num(sample.y, nan=-1.0), return_inverse=True)[1]


def _discretised(sample: Sample) -> list[NDArray[np.int_]]:
    """Each column in bins of equal frequency, the cube root of n of them; missing is a bin."""
    codes = []
    probabilities = np.linspace(0.0, 1.0, int(len(sample.X) ** (1 / 3) + 1e-9) + 1)[1:]
    for column, categorical in zip(sample.X.T, sample.categorical, strict=True):
        known = ~np.isnan(column)
        values = column[known]
        if not categorical and len(values):
            edges = np.unique(np.quantile(values, probabilities))
            values = np.searchsorted(edges, values, side="left")
        binned = np.full(len(column), -1.0)
        binned[known] = values
        codes.append(np.unique(binned, return_inverse=True)[1])
    return codes if len(sample.X) else []


def _entropy(frequencies: Array | NDArray[np.int_]) -> float:
    """In bits."""
    shares = frequencies[frequencies > 0] / frequencies.sum()
    return float(-(shares * np.log2(shares)).sum())


def _joint_entropy(a: NDArray[np.int_], b: NDArray[np.int_]) -> float:
    table = np.bincount(a * (b.max() + 1) + b, minlength=(a.max() + 1) * (b.max() + 1))
    shares = table / len(a) + EMPTY_CELL
    return float(-(shares * np.log2(shares)).sum())


def _separation(N: Array, classes: NDArray[np.int_]) -> Array:
    """1 / (1 + Fisher's discriminant ratio) of each column (Lorena et al. 2019, F1)."""
    filled = np.where(np.isnan(N), np.nanmean(N, axis=0) if N.size else 0.0, N)
    members = classes[:, None] == np.arange(classes.max() + 1)
    counts = members.sum(axis=0)
    centroids = (members.T.astype(float) @ filled) / counts[:, None]
    between = (counts[:, None] * (centroids - filled.mean(axis=0)) ** 2).sum(axis=0)
    within = ((filled - centroids[classes]) ** 2).sum(axis=0)
    return 1.0 / (1.0 + between / within)


# ---- images and sequences ------------------------------------------------------------------


def _images(sample: Sample) -> dict[str, float]:
    channels, height, width = sample.image or (math.nan, math.nan, math.nan)
    pixels = sample.X if sample.image is not None else np.empty((0, 0))
    known = pixels[~np.isnan(pixels)][:, None]
    brightness = np.nanmean(pixels, axis=1) if pixels.size else np.empty(0)
    skewness, kurtosis = _moments(known)
    deviation = float(known.std()) if len(known) else math.nan
    return {
        "image_channels": channels,
        "image_height": height,
        "image_width": width,
        "intensity_mean": _mean(known),
        "intensity_deviation": deviation,
        "intensity_skewness": _mean(skewness),
        "intensity_kurtosis": _mean(kurtosis),
        "brightness_spread": _ratio(brightness.std(), deviation) if len(brightness) else math.nan,
    }


def _sequences(sample: Sample) -> dict[str, float]:
    lengths = np.array([len(sequence) for sequence in sample.sequences], float)
    tokens = np.concatenate(sample.sequences) if sample.sequences else np.empty(0, int)
    counts = np.unique(tokens, return_counts=True)[1]
    return {
        **_summary("length", lengths),
        "vocabulary": float(len(counts)) if len(counts) else math.nan,
        "token_entropy": _entropy(counts) if len(counts) else math.nan,
        "tokens_seen_once": _mean(counts == 1),
    }


_GROUPS: list[Callable[[Sample], dict[str, float]]] = [
    _general,
    _classes,
    _target,
    _statistics,
    _principal,
    _information,
    _images,
    _sequences,
]


# ---- summaries -----------------------------------------------------------------------------


def _summary(name: str, values: Array) -> Mapping[str, float]:
    """Mean, unbiased deviation, minimum and maximum of what is known."""
    known = values[np.isfinite(values)]
    if not len(known):
        return {f"{name}_{part}": math.nan for part in ("mean", "sd", "min", "max")}
    return {
        f"{name}_mean": float(known.mean()),
        f"{name}_sd": float(known.std(ddof=1)) if len(known) > 1 else math.nan,
        f"{name}_min": float(known.min()),
        f"{name}_max": float(known.max()),
    }


def _mean(values: Any) -> float:
    values = np.asarray(values, float)
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b else math.nan
