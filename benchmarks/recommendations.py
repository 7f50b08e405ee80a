"""Recommendations before any trial, on real data sets: how good the best of k is.

Each data set's family (all problems made of the same rows) is left out in turn; the others are
the past. Methods were chosen on every second family (``--split development``, whose past is that
split alone); the rest reports.

    python -m benchmarks.recommendations

Regret: how far the best of the k recommended configurations is from the best of all 100, as a
share of the range from the worst; intervals are 95% bootstrap intervals over families.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import softmax

from metahpo.archive import Archive
from metahpo.recommendation.recommend import METHODS, choose, normalised
from metahpo.similarity import ranked
from metahpo.similarity.learned_metric import rank_correlations

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import svm_problem

KS = (1, 3, 5)
DRAWS = 4000
ORACLE_TEMPERATURE = 0.05
SEED = 0


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", default="examples/svm_history")
    parser.add_argument("--split", choices=("development", "report"), default="report")
    parser.add_argument("--methods", nargs="+", default=["portfolio", *METHODS], metavar="NAME")
    arguments = parser.parse_args()
    tasks = Archive(arguments.archive).tasks()
    scores = normalised(np.array([[trial.value for trial in task.trials] for task in tasks]))
    families = np.array([svm_problem.family(task.name) for task in tasks])
    development = np.isin(families, sorted(set(families))[::2])
    is_development = arguments.split == "development"
    judged = np.flatnonzero(development == is_development)
    usable = judged if is_development else np.arange(len(tasks))
    described = [task.metafeatures for task in tasks]
    print(f"{len(judged)} data sets of {len(set(families[judged]))} families; past: {len(usable)}")
    print(f"{'method':12s}" + "".join(f"{f'k = {k}':>26s}" for k in KS), flush=True)
    report("random", random_regret(scores[judged]), families[judged], None)
    report("oracle", oracle_regrets(scores, families, judged, usable), families[judged], None)
    reference = None
    for method in dict.fromkeys(arguments.methods):
        found = regrets(method, scores, families, described, judged, usable)
        report(method, found, families[judged], reference)
        reference = found if method == "portfolio" else reference


def regrets(
    method: str,
    scores: np.ndarray,
    families: np.ndarray,
    described: list,
    judged: np.ndarray,
    usable: np.ndarray,
) -> np.ndarray:
    """Judged data sets x KS."""
    rows = {}
    for family in dict.fromkeys(families[judged]):
        past = usable[families[usable] != family]
        similarity = METHODS[method](SEED)
        similarity.fit([described[i] for i in past], ranked(scores[past]))
        for index in judged[families[judged] == family]:
            order = choose(
                scores[past], similarity.weights(described[index]), max(KS), vote=method == "vote"
            )
            rows[index] = [1.0 - scores[index, order[:k]].max() for k in KS]
    return np.array([rows[index] for index in judged])


def oracle_regrets(
    scores: np.ndarray, families: np.ndarray, judged: np.ndarray, usable: np.ndarray
) -> np.ndarray:
    """Judged data sets x KS, given how similarly each past task ranks configurations.

    The past tasks' weights are a softmax of their true rank correlations with the judged one:
    what no similarity of meta-features can know better.
    """
    alike = rank_correlations(scores)
    rows = []
    for index in judged:
        past = usable[families[usable] != families[index]]
        weights = softmax(alike[index, past] / ORACLE_TEMPERATURE)
        order = choose(scores[past], weights, max(KS))
        rows.append([1.0 - scores[index, order[:k]].max() for k in KS])
    return np.array(rows)


def random_regret(scores: np.ndarray) -> np.ndarray:
    """Expected regret of the best of k configurations drawn at random."""
    rng = np.random.default_rng(SEED)
    drawn = np.stack([rng.permutation(scores.shape[1])[: max(KS)] for _ in range(500)])
    return np.stack([1.0 - scores[:, drawn[:, :k]].max(2).mean(1) for k in KS], axis=1)


def report(
    name: str, found: np.ndarray, families: np.ndarray, reference: np.ndarray | None
) -> None:
    """Mean regrets with intervals; below, the difference from the portfolio with intervals."""
    line(name, found, families)
    if reference is not None:
        line("  - portfolio", found - reference, families)


def line(name: str, values: np.ndarray, families: np.ndarray) -> None:
    """One row of the table."""
    cells = []
    for column in values.T:
        low, high = interval(lambda rows, column=column: column[rows].mean(), families)
        cells.append(f"{column.mean():z.4f} [{low:z.4f}, {high:z.4f}]")
    print(f"{name:13s}" + "".join(f"{cell:>26s}" for cell in cells), flush=True)


def interval(
    statistic: Callable[[np.ndarray], float], families: np.ndarray
) -> tuple[float, float]:
    """95% of a statistic over families drawn with replacement."""
    rng = np.random.default_rng(SEED)
    members = [np.flatnonzero(families == family) for family in dict.fromkeys(families)]
    draws = []
    for _ in range(DRAWS):
        drawn = rng.integers(0, len(members), len(members))
        draws.append(statistic(np.concatenate([members[index] for index in drawn])))
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    main()
