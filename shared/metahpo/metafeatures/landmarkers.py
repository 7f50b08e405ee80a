"""Landmarkers: cross-validated scores of very cheap models on a sample.

Pfahringer et al. 2000, "Meta-learning by landmarking various learning algorithms". Inputs are
standardised and one-hot encoded, with missing values replaced by means. Scores are accuracies
for classification (equal to pymfe's one_nn, best_node, linear_discr and naive_bayes on such
inputs) and R^2, clipped at -1, for regression.

Notation: n rows, p columns of the sample; c encoded columns.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from metahpo.metafeatures.arrays import Array
from metahpo.metafeatures.sample import Sample

# Rows and encoded columns used.
ROWS = 1000
COLUMNS = 100
# Folds of the cross-validation, as in pymfe.
FOLDS = 10
# Categories of a column that are one-hot encoded; the others become zeros.
CATEGORIES = 10

_CLASSIFIERS: dict[str, Any] = {
    "one_nn": KNeighborsClassifier(n_neighbors=1, algorithm="brute"),
    "stump": DecisionTreeClassifier(max_depth=1, random_state=0),
    "linear": LinearDiscriminantAnalysis(),
    "naive_bayes": GaussianNB(),
}
_REGRESSORS: dict[str, Any] = {
    "one_nn": KNeighborsRegressor(n_neighbors=1, algorithm="brute"),
    "stump": DecisionTreeRegressor(max_depth=1, random_state=0),
    "linear": Ridge(alpha=1.0),
}


def landmarker_features(sample: Sample) -> dict[str, float]:
    """Return the scores of the landmarkers and differences between them."""
    scores = dict.fromkeys((*_CLASSIFIERS, "majority"), math.nan)
    balanced = dict.fromkeys(_CLASSIFIERS, math.nan)
    known = np.empty(0, int) if sample.y is None else np.flatnonzero(~np.isnan(sample.y))
    if len(known) >= 2 and sample.y is not None and sample.X.shape[1]:
        # Evenly spaced, because the sample keeps the order of the data.
        rows = known[np.unique(np.linspace(0, len(known) - 1, ROWS).astype(int))]
        X, y = _encoded(sample, rows), sample.y[rows]
        with warnings.catch_warnings():
            # Collinear columns and rare classes cause warnings, but the scores are usable.
            warnings.simplefilter("ignore")
            if sample.regression:
                scores |= {name: _r2(model, X, y) for name, model in _REGRESSORS.items()}
            else:
                X, y = _without_singletons(X, y.astype(int))
                for name, model in _CLASSIFIERS.items():
                    scores[name], balanced[name] = _accuracies(model, X, y)
                scores["majority"] = _majority(y)
    return {
        **{f"{name}_score": score for name, score in scores.items()},
        **{f"{name}_balanced": score for name, score in balanced.items()},
        "nonlinearity": scores["one_nn"] - scores["linear"],
        "interaction": scores["linear"] - scores["stump"],
    }


def _encoded(sample: Sample, rows: Any) -> Array:
    """Standardised and one-hot encoded columns of these rows, `len(rows) x c`."""
    blocks = []
    for column, categorical in zip(sample.X[rows].T, sample.categorical, strict=True):
        values = np.unique(column[~np.isnan(column)])
        if categorical and len(values) > 2:
            blocks.append(_standardised(column[:, None] == values[:CATEGORIES]))
        else:
            blocks.append(_standardised(column[:, None]))
    return np.concatenate(blocks, axis=1)[:, :COLUMNS]


def _standardised(block: Array | Any) -> Array:
    block = np.asarray(block, float)
    known = ~np.isnan(block)
    mean = np.where(known, block, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, block - mean, 0.0)
    spread = centred.std(axis=0)
    return centred / np.where(spread > 1e-14 * np.abs(mean), spread, np.inf)


def _without_singletons(X: Array, y: Any) -> tuple[Array, Any]:
    """Without classes of a single row, which cannot be in both training and test folds."""
    kept = np.bincount(y)[y] > 1
    return X[kept], y[kept]


def _majority(y: Any) -> float:
    return float(np.bincount(y).max() / len(y)) if len(y) else math.nan


def _accuracies(model: Any, X: Array, y: Any) -> tuple[float, float]:
    """Mean accuracy over the folds, and balanced accuracy over all rows at once."""
    if len(np.unique(y)) < 2:
        return math.nan, math.nan
    splitter = StratifiedKFold(n_splits=min(FOLDS, int(np.bincount(y).max())))
    predicted, scores = np.empty_like(y), []
    for train, test in splitter.split(X, y):
        predicted[test] = _predictor(model, X[train], y[train])(X[test])
        scores.append(accuracy_score(y[test], predicted[test]))
    return float(np.mean(scores)), float(balanced_accuracy_score(y, predicted))


def _r2(model: Any, X: Array, y: Array) -> float:
    if len(y) < 4:
        return math.nan
    predicted = np.empty_like(y)
    # Shuffled, because numeric targets are often sorted; with a fixed seed.
    for train, test in KFold(min(FOLDS, len(y)), shuffle=True, random_state=0).split(X):
        predicted[test] = _predictor(model, X[train], y[train])(X[test])
    return max(-1.0, float(r2_score(y, predicted))) if np.ptp(y) > 0 else math.nan


def _predictor(model: Any, X: Array, y: Any) -> Callable[[Array], Any]:
    """Fit a copy of the model and return its prediction; constant for a single class."""
    if len(np.unique(y)) < 2:
        return lambda rows: np.full(len(rows), y[0])
    fresh: Any = clone(model)
    return fresh.fit(X, y).predict
