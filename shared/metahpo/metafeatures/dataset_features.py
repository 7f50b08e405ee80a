"""Meta-features of a data set: sizes, classes, and the groups of the files beside this one.

Where pymfe defines the same feature, the value equals pymfe's; its name stands in a comment
(Alcobaca et al. 2020, "MFE: Towards reproducible meta-feature extraction", and Rivolli et al.
2022, "Meta-features for meta-learning"). What cannot be computed is NaN.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from metahpo.metafeatures.column_statistics import (
    moments,
    principal_features,
    statistics_features,
)
from metahpo.metafeatures.image_text_features import image_features, sequence_features
from metahpo.metafeatures.information import information_features
from metahpo.metafeatures.landmarkers import landmarker_features
from metahpo.metafeatures.sample import EMPTY, Sample, draw
from metahpo.metafeatures.summaries import entropy, mean, ratio, summary


def dataset_metafeatures(
    X: Any,
    y: Any = None,
    *,
    regression: bool | None = None,
    landmarkers: bool = True,
    seed: int = 0,
) -> dict[str, float]:
    """Return the meta-features of a data set.

    Pass training data only: the targets are used, so those of test rows would leak.

    Args:
        X: `n x p`; see ``metahpo.metafeatures.extract`` for the types.
        y: `n`, classes or numbers.
        regression: Whether y is a quantity; None decides by its values.
        landmarkers: Whether to train the cheap models.
        seed: Seed of the choice of rows and columns of large data.

    Returns:
        Numbers by name. The names are always the same; NaN for what is not defined here.

    Raises:
        TypeError: If ``X`` is not a data set.
        ValueError: If ``X`` and ``y`` differ in length.
    """
    sample = draw(X, y, regression=regression, seed=seed)
    groups = [*_GROUPS, landmarker_features] if landmarkers else _GROUPS
    features: dict[str, float] = {}
    with warnings.catch_warnings():
        # Means of empty slices and overflows give NaN, as documented.
        warnings.simplefilter("ignore", RuntimeWarning)
        for group in groups:
            features |= _compute(group, sample)
    return {f"dataset.{name}": _finite(value) for name, value in features.items()}


def _compute(group: Callable[[Sample], dict[str, float]], sample: Sample) -> dict[str, float]:
    """Features of a group; NaN under the same names if the computation fails on this data."""
    try:
        return group(sample)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError, IndexError):
        return dict.fromkeys(group(EMPTY), math.nan)


def _finite(value: float) -> float:
    return float(value) if np.isfinite(value) else math.nan


def _size_features(sample: Sample) -> dict[str, float]:
    rows, columns = sample.rows, sample.columns
    X = sample.X
    missing = np.isnan(X)
    count = max(X.shape[1], 1)
    share = int(sample.categorical.sum()) / count if X.shape[1] else math.nan
    distinct = np.array([len(np.unique(c[~np.isnan(c)])) for c in X.T])
    return {
        "rows": rows,  # nr_inst
        "columns": columns,  # nr_attr
        "rows_per_column": ratio(rows, columns),  # inst_to_attr
        "columns_per_row": ratio(columns, rows),  # attr_to_inst
        "categorical_columns": share * columns,  # nr_cat
        "numeric_columns": (1.0 - share) * columns,  # nr_num
        "categorical_share": share,
        "binary_share": mean(distinct == 2),  # nr_bin / nr_attr
        "constant_share": mean(distinct <= 1),
        "distinct_share": mean(distinct / max(len(X), 1)),
        "missing_share": mean(missing),
        "missing_columns": mean(missing.any(axis=0)),
        "missing_rows": mean(missing.any(axis=1)),
        "zero_share": mean(X[~missing] == 0),
    }


def _class_features(sample: Sample) -> dict[str, float]:
    counts = sample.class_counts
    shares = counts / counts.sum() if len(counts) else np.empty(0)
    several = len(counts) > 1
    odds = (shares / (1.0 - shares)).sum() * (len(counts) - 1) / len(counts) if several else 0.0
    return {
        "classes": float(len(counts)) if len(counts) else math.nan,  # nr_class
        **summary("class_share", shares),  # freq_class
        "class_imbalance": 1.0 - 1.0 / odds if several else math.nan,  # c2
        "class_entropy": entropy(shares) if len(counts) else math.nan,  # class_ent
        "is_regression": float(sample.regression) if sample.y is not None else math.nan,
    }


def _target_features(sample: Sample) -> dict[str, float]:
    """Shape of the distribution of a numeric target."""
    known = np.empty((0, 1))
    if sample.regression and sample.y is not None:
        known = sample.y[~np.isnan(sample.y)][:, None]
    skewness, kurtosis = moments(known)
    return {
        "target_skewness": mean(skewness),
        "target_kurtosis": mean(kurtosis),
        "target_distinct_share": ratio(len(np.unique(known)), len(known)),
    }


_GROUPS: list[Callable[[Sample], dict[str, float]]] = [
    _size_features,
    _class_features,
    _target_features,
    statistics_features,
    principal_features,
    information_features,
    image_features,
    sequence_features,
]
