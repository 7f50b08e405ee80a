"""Recommend configurations of a support vector machine for a data set, and evaluate them.

    python examples/recommend.py --dataset heart

The history is ``examples/svm_history``, made by ``build_svm_history.py``: 100 configurations on
64 real data sets. Data sets made of the same rows as the given one are left out.
"""

from __future__ import annotations

import argparse

import svm_problem

from metahpo import Archive, recommend
from metahpo.metafeatures import extract


def main() -> None:
    """Print the recommended configurations with their accuracy, and what they are based on."""
    parser = argparse.ArgumentParser(description="Recommend configurations before any trial.")
    parser.add_argument("--dataset", default="heart", choices=svm_problem.DATASETS, metavar="NAME")
    parser.add_argument("--archive", default="examples/svm_history")
    parser.add_argument("--method", default="kglasso")
    parser.add_argument("-k", type=int, default=3)
    arguments = parser.parse_args()
    own = svm_problem.family(arguments.dataset)
    past = [t for t in Archive(arguments.archive) if svm_problem.family(t.name) != own]
    inputs, classes = svm_problem.load(arguments.dataset)
    found = recommend(extract(inputs, classes), past, arguments.k, arguments.method)
    folds = svm_problem.split(svm_problem.encode(inputs), classes)
    for item in found:
        accuracy = svm_problem.score(dict(item.configuration), folds)
        print(f"balanced accuracy {accuracy:.3f}  {dict(item.configuration)}")
    print("past tasks:", ", ".join(f"{n} ({w:.2f})" for n, w in found.past_tasks[:5]))
    print("meta-features:", ", ".join(f"{n} ({s:.2f})" for n, s in found.metafeatures[:5]) or "-")


if __name__ == "__main__":
    main()
