"""Information-theoretic features of a data set: entropies, mutual information, separability."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from metahpo.metafeatures.arrays import Array
from metahpo.metafeatures.sample import Sample
from metahpo.metafeatures.summaries import entropy, ratio, summary

# Added to the cells of a contingency table, as pymfe does.
EMPTY_CELL = 1e-8


def information_features(sample: Sample) -> dict[str, float]:
    """Entropies of the columns, their mutual information with the classes, and separability."""
    codes = _discretised(sample)
    own = np.array([entropy(np.bincount(column)) for column in codes])
    classes = _class_codes(sample)
    if classes is None or not len(codes):
        mutual = separability = np.empty(0)
        class_entropy = math.nan
    else:
        class_entropy = entropy(np.bincount(classes))
        joint = np.array([_joint_entropy(column, classes) for column in codes])
        mutual = own + class_entropy - joint
        separability = _separability(sample.X[:, ~sample.categorical], classes)
    return {
        **summary("column_entropy", own),  # attr_ent
        **summary("mutual_information", mutual),  # mut_inf
        "equivalent_columns": ratio(len(mutual) * class_entropy, mutual.sum()),  # eq_num_attr
        "noise_ratio": ratio(own.sum() - mutual.sum(), mutual.sum()),  # ns_ratio
        "relative_information": ratio(mutual.max(initial=0.0), class_entropy),
        **summary("fisher", separability),  # f1
    }


def _class_codes(sample: Sample) -> NDArray[np.int_] | None:
    """Classes as integers, with missing targets as one more class; None without classes."""
    if sample.y is None or sample.regression or not len(sample.y):
        return None
    return np.unique(np.nan_to_num(sample.y, nan=-1.0), return_inverse=True)[1]


def _discretised(sample: Sample) -> list[NDArray[np.int_]]:
    """Each column as integers: cbrt(n) bins of equal frequency, and one for missing values."""
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


def _joint_entropy(a: NDArray[np.int_], b: NDArray[np.int_]) -> float:
    """Joint entropy of two columns of integers, in bits."""
    table = np.bincount(a * (b.max() + 1) + b, minlength=(a.max() + 1) * (b.max() + 1))
    shares = table / len(a) + EMPTY_CELL
    return float(-(shares * np.log2(shares)).sum())


def _separability(N: Array, classes: NDArray[np.int_]) -> Array:
    """1 / (1 + Fisher's discriminant ratio) of each column (Lorena et al. 2019, F1)."""
    filled = np.where(np.isnan(N), np.nanmean(N, axis=0) if N.size else 0.0, N)
    members = classes[:, None] == np.arange(classes.max() + 1)
    counts = members.sum(axis=0)
    centroids = (members.T.astype(float) @ filled) / counts[:, None]
    between = (counts[:, None] * (centroids - filled.mean(axis=0)) ** 2).sum(axis=0)
    within = ((filled - centroids[classes]) ** 2).sum(axis=0)
    return 1.0 / (1.0 + between / within)
