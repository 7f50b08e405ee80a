"""How well surrogates predict held-out tasks from few trials and twenty past tasks.

python -m benchmarks.training_data --to .cache/training --develop
python -m benchmarks.predictions --training .cache/training --weights weights.safetensors

For each task, number of trials and surrogate: Spearman's rank correlation of the predicted means
with the values of 200 random configurations, the mean logarithm of the predictive density of these
values, in units of the task's own spread, and the share of them inside central intervals. The
surrogates: the neural process, the policy's Gaussian processes with and without the past.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from scipy.stats import norm
from tqdm import tqdm

from metahpo.archive import ArchiveError
from metahpo.settings import PolicySettings
from metahpo.surrogate.aligned_history import AlignedHistory
from metahpo.surrogate.gp.gp_family import GaussianFamily, past_models
from metahpo.surrogate.gp.gp_surrogate import GPSurrogate
from metahpo.surrogate.neural.neural_model import NeuralModel, encode_past
from metahpo.surrogate.neural.neural_process import NeuralProcess
from metahpo.surrogate.neural.pretrained import WeightsError, load_weights
from metahpo.surrogate.standardise import own_scale
from metahpo.surrogate.study_arrays import StudyArrays
from metahpo.tasks.alignment import AlignedTask
from metahpo.tasks.space import Array, Space
from metahpo.train.files import write_log
from metahpo.train.intervals import INTERVALS, coverage
from metahpo.train.surrogate.episodes import Episodes
from metahpo.train.surrogate.measure import TRIALS, held_out, rank_correlation
from metahpo.train.surrogate.task_families import read_families

METHODS = ("neural", "neural, no past", "transfer GP", "target-only GP")
COVERED = tuple(f"{share:.0%} interval" for share in INTERVALS)
COLUMNS = ("task", "trials", "method", "rank", "density", *COVERED)
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Study:
    """One held-out task: its trials, what is asked, and its past."""

    name: str
    space: Space
    points: Array
    values: Array
    queries: Array
    answers: Array
    past: tuple[AlignedTask, ...]
    unit: float

    def first(self, count: int) -> tuple[Array, Array]:
        """The first so many trials."""
        return self.points[:count], self.values[:count]


def studies(training: Path, part: str, most: int) -> Iterator[Study]:
    """The tasks of an archive that was not trained on, with their past."""
    history, others = read_families(training / "history"), read_families(training / part)
    for family, episodes in zip(others, held_out(history, others, most), strict=True):
        for row in range(len(episodes.values)):
            yield _study(
                f"{family.tasks[0].name.split('/')[0]}/{row}", family.space, episodes, row
            )


def _study(name: str, space: Space, episodes: Episodes, row: int) -> Study:
    points, values = episodes.points[row].numpy(), episodes.values[row].numpy()
    known = np.ones(len(space), bool)
    past = tuple(
        AlignedTask(f"{name}-past-{i}", p.numpy(), v.numpy(), known, 1.0)
        for i, (p, v) in enumerate(
            zip(episodes.past_points[row], episodes.past_values[row], strict=True)
        )
    )
    n = episodes.trials
    unit = float(own_scale(episodes.values[row]).unit)
    return Study(name, space, points[:n], values[:n], points[n:], values[n:], past, unit)


# ---- surrogates ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a surrogate says of a study's queries.

    Attributes:
        means: In values; their order is what counts.
        log_densities: Of the answers, in values; None where it does not say where they lie.
        places: Its distribution functions at the answers; None likewise.
    """

    means: Array
    log_densities: Array | None = None
    places: Array | None = None


def neural(network: NeuralProcess, study: Study, count: int, past: bool) -> Prediction:
    """The neural process."""
    encoded = encode_past(network, study.past, study.space) if past else None
    model = NeuralModel(network, study.space, *study.first(count), encoded)
    with torch.no_grad():
        predictive = model.predictive(torch.from_numpy(study.queries))
        scores = torch.from_numpy(model.scale.warp.scores(study.answers))
        places = predictive.cdf(scores).numpy()
    densities = model.log_densities(study.queries, study.answers)
    return Prediction(predictive.mean.numpy(), densities, places)


def gaussian_processes(study: Study, count: int, past: AlignedHistory | None) -> Prediction:
    """The Gaussian processes' mixture, or its target-only part where there is no past."""
    history = past or AlignedHistory(study.space)
    if not count:
        expected = past_models(history).predict(study.queries) @ history.relevance if past else 0.0
        return Prediction(np.broadcast_to(expected, len(study.queries)))
    points, values = study.first(count)
    nothing = points[:0]
    arrays = StudyArrays(study.space, points, values, nothing, points)
    means, places, densities = np.zeros(len(study.queries)), np.zeros(len(study.queries)), []
    for member in GaussianFamily().fit(arrays, history, PolicySettings()).members:
        surrogate = cast(GPSurrogate, member.surrogate)
        with torch.no_grad():
            X = history.features(torch.from_numpy(study.queries))
            found = surrogate.model.mean_and_variance(X)
        deviation = np.sqrt(found[1].numpy() + surrogate.model.kernel.noise)
        normal = {"loc": found[0].numpy(), "scale": deviation}
        scores = surrogate.warp.scores(study.answers)
        slopes = surrogate.warp.log_slopes(study.answers)
        means += member.weight * surrogate.warp.values(found[0].numpy())
        places += member.weight * norm.cdf(scores, **normal)
        densities.append(np.log(member.weight) + norm.logpdf(scores, **normal) + slopes)
    return Prediction(means, np.logaddexp.reduce(densities), places)


def rows_of(study: Study, network: NeuralProcess, methods: Sequence[str]) -> Iterator[Row]:
    """A row for each number of trials and method."""
    past = None
    if "transfer GP" in methods:
        rho = np.full(len(study.past), 1.0 / len(study.past))
        past = AlignedHistory(study.space, study.past, rho)
    predict: dict[str, Callable[[int], Prediction]] = {
        "neural": lambda count: neural(network, study, count, past=True),
        "neural, no past": lambda count: neural(network, study, count, past=False),
        "transfer GP": lambda count: gaussian_processes(study, count, past),
        "target-only GP": lambda count: gaussian_processes(study, count, None),
    }
    for count in TRIALS:
        for method in methods:
            prediction = predict[method](count)
            row: Row = {"task": study.name, "trials": count, "method": method}
            row["rank"] = rank_correlation(prediction.means, study.answers)
            # Without a trial, nobody knows where the values lie.
            if count and prediction.log_densities is not None and prediction.places is not None:
                row["density"] = float(np.mean(prediction.log_densities) + np.log(study.unit))
                shares = coverage(torch.from_numpy(prediction.places))
                row |= dict(zip(COVERED, shares, strict=True))
            yield row


# ---- command line --------------------------------------------------------------------------


def table(rows: list[Row], methods: Sequence[str]) -> str:
    """Means over tasks, as Markdown."""
    lines = [f"| | {' | '.join(map(str, TRIALS))} |", "|---|" + "---|" * len(TRIALS)]
    for column in COLUMNS[3:]:
        for method in methods:
            cells = []
            for count in TRIALS:
                chosen = [r for r in rows if r["method"] == method and r["trials"] == count]
                mine = [r[column] for r in chosen if column in r]
                cells.append(f"{np.mean(mine):.2f}" if mine else "")
            lines.append(f"| {column}: {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Compare, print the table and write the rows."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.predictions",
        description="How well surrogates predict held-out tasks from few trials.",
    )
    parser.add_argument("--training", type=Path, required=True, help="from training_data")
    parser.add_argument("--weights", type=Path, required=True, help="of the neural process")
    parser.add_argument("--part", choices=("develop", "validation"), default="develop")
    parser.add_argument("--tasks", type=int, default=100, help="at most so many a family")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--out", type=Path, help="CSV, a row a task, number of trials and method")
    arguments = parser.parse_args(argv)
    methods = arguments.methods
    try:
        network = load_weights(arguments.weights)
        known = list(studies(arguments.training, arguments.part, arguments.tasks))
    except (ArchiveError, WeightsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    rows = [row for study in tqdm(known, disable=None) for row in rows_of(study, network, methods)]
    print(f"{len(known)} tasks, mean over tasks by number of trials\n\n{table(rows, methods)}")
    if arguments.out:
        write_log(arguments.out, COLUMNS, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
