"""Landmarkers: how well very cheap models do, by cross-validation on a sample.

Pfahringer et al. 2000, "Meta-learning by landmarking various learning algorithms". Inputs are
standardised, categories one-hot, means in place of missing values. Accuracy for classes (pymfe's
one_nn, best_node, linear_discr and naive_bayes on such inputs), R^2, at least -1, for quantities.
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

from metahpo.metafeatures.sample import Array, Sample

# Rows and columns that they are trained on, and the folds (pymfe's).
ROWS = 1000
COLUMNS = 100
FOLDS = 10
# Categories of a column that get a column of their own.
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


def landmarks(sample: Sample) -> dict[str, float]:
    """The landmarkers' scores, and what tells more than they do: their differences."""
    scores = dict.fromkeys((*_CLASSIFIERS, "majority"), math.nan)
    balanced = dict.fromkeys(_CLASSIFIERS, math.nan)
    known = np.empty(0, int) if sample.y is None else np.flatnonzero(~np.isnan(sample.y))
    if len(known) >= 2 and sample.y is not None and sample.X.shape[1]:
        # Spread over the sample, which is in the order of the data.
        rows = known[np.unique(np.linspace(0, len(known) - 1, ROWS).astype(int))]
        X, y = _encoded(sample, rows), sample.y[rows]
        with warnings.catch_warnings():
            # Of collinear columns and rare classes; what comes out is still a description.
            warnings.simplefilter("ignore")
            if sample.regression:
                scores |= {name: _r2(model, X, y) for name, model in _REGRESSORS.items()}
            else:
                X, y = _frequent(X, y.astype(int))
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
    """Rows x columns: numbers standardised over these rows, categories one-hot."""
    blocks = []
    for column, categorical in zip(sample.X[rows].T, sample.categorical, strict=True):
        values = np.unique(column[~np.isnan(column)])
        if categorical and len(values) > 2:
            blocks.append(_standard(column[:, None] == values[:CATEGORIES]))
        else:
            blocks.append(_standard(column[:, None]))
    return np.concatenate(blocks, axis=1)[:, :COLUMNS]


def _standard(block: Array | Any) -> Array:
    block = np.asarray(block, float)
    known = ~np.isnan(block)
    mean = np.where(known, block, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, block - mean, 0.0)
    spread = centred.std(axis=0)
    return centred / np.where(spread > 1e-14 * np.abs(mean), spread, np.inf)


def _frequent(X: Array, y: Any) -> tuple[Array, Any]:
    """Without the classes that have one row, which no fold could hold and train on."""
    kept = np.bincount(y)[y] > 1
    return X[kept], y[kept]


def _majority(y: Any) -> float:
    return float(np.bincount(y).max() / len(y)) if len(y) else math.nan


def _accuracies(model: Any, X: Array, y: Any) -> tuple[float, float]:
    """Accuracy as the mean over folds, balanced accuracy over all rows at once."""
    if len(np.unique(y)) < 2:
        return math.nan, math.nan
    splitter = StratifiedKFold(n_splits=min(FOLDS, int(np.bincount(y).max())))
    predicted, scores = np.empty_like(y), []
    for train, test in splitter.split(X, y):
        predicted[test] = _fitted(model, X[train], y[train])(X[test])
        scores.append(accuracy_score(y[test], predicted[test]))
    return float(np.mean(scores)), float(balanced_accuracy_score(y, predicted))


def _r2(model: Any, X: Array, y: Array) -> float:
    if len(y) < 4:
        return math.nan
    predicted = np.empty_like(y)
    # In a fixed random order: quantities are often sorted.
    for train, test in KFold(min(FOLDS, len(y)), shuffle=True, random_state=0).split(X):
        predicted[test] = _fitted(model, X[train], y[train])(X[test])
    return max(-1.0, float(r2_score(y, predicted))) if np.ptp(y) > 0 else math.nan


def _fitted(model: Any, X: Array, y: Any) -> Callable[[Array], Any]:
    if len(np.unique(y)) < 2:
        return lambda rows: np.full(len(rows), y[0])
    fresh: Any = clone(model)
    return fresh.fit(X, y).predict
