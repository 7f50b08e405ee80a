"""Prediction quality of a surrogate on tasks that it was not trained on.

Each held-out task in turn is the present one; tasks of the same space in the training archive are
its past. The same studies are evaluated with several numbers of trials, so that these compare.

Notation: see ``episodes.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.surrogate.networks.space_description import stack
from metahpo.surrogate.neural.neural_process import NeuralProcess
from metahpo.surrogate.standardise import own_scale
from metahpo.tasks.space import Array
from metahpo.train.intervals import coverage
from metahpo.train.surrogate.episodes import (
    MAX_TARGET,
    Episodes,
    draw_shape,
    standardised,
    without_past,
)
from metahpo.train.surrogate.prior import synthetic_episodes
from metahpo.train.surrogate.task_families import Family, Record

# Numbers of trials at which predictions are evaluated.
TRIALS = (0, 3, 5, 10, 20)
# Upper bounds of what a study contains.
PAST_TASKS, PAST_TRIALS, QUERIES = 20, 50, 200
# A held-out task must leave at least so many queries.
MIN_QUERIES = 10
MIN_TRIALS = max(TRIALS) + MIN_QUERIES
# Number and budget of the synthetic batches.
PRIOR_BATCHES, PRIOR_BUDGET = 24, 2000


@dataclass(frozen=True)
class Quality:
    """Prediction quality over tasks and queries.

    Attributes:
        log_density: Mean log predictive density of the observed scores.
        rank_correlation: Spearman's correlation of predicted means and values, mean over tasks.
        coverage: Coverage of the central intervals in ``INTERVALS``.
    """

    log_density: float
    rank_correlation: float
    coverage: tuple[float, ...]


# ---- held-out studies ----------------------------------------------------------------------


def held_out(
    history: Sequence[Family], families: Sequence[Family], max_tasks: int | None = None
) -> Iterator[Episodes]:
    """Yield a batch for each family: its tasks with their past and ``max(TRIALS)`` trials.

    Args:
        history: The training archive.
        families: Held-out tasks; those with fewer than ``MIN_TRIALS`` trials are skipped.
        max_tasks: Upper bound of the tasks taken from a family, evenly spaced; None for all.
    """
    history_families = {_key(family): family for family in history}
    for family in families:
        past = history_families.get(_key(family))
        tasks = [task for task in family.tasks if len(task.values) >= MIN_TRIALS]
        if tasks:
            count = min(max_tasks or len(tasks), len(tasks))
            chosen = np.linspace(0, len(tasks) - 1, count).round().astype(int)
            yield _studies(family, [tasks[i] for i in chosen], past.tasks if past else ())


def _key(family: Family) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(family.space.to_json().items()))


def _studies(family: Family, tasks: Sequence[Record], past: Sequence[Record]) -> Episodes:
    rows = min([max(TRIALS) + QUERIES, *(_usable_trials(task) for task in tasks)])
    studies = [_study(task, rows, past) for task in tasks]
    points, values, past_points, past_values = (
        torch.from_numpy(np.stack(part)) for part in zip(*studies, strict=True)
    )
    scales = [own_scale(torch.from_numpy(task.values)) for task in tasks]
    return Episodes(
        description=stack([family.description] * len(tasks)),
        points=points,
        values=values,
        trials=max(TRIALS),
        population=type(scales[0])(*map(torch.stack, zip(*scales, strict=True))),
        past_points=past_points,
        past_values=past_values,
        known=torch.ones((*past_values.shape[:2], points.shape[-1]), dtype=torch.bool),
        relevance=torch.zeros(past_values.shape[:2]),
    )


def _study(task: Record, rows: int, past: Sequence[Record]) -> tuple[Array, Array, Array, Array]:
    """Return points, values, past points and past values of one study."""
    # Seeded by the task alone, so that its study is the same in any selection of tasks.
    rng = np.random.default_rng(len(task.values) + sum(map(ord, task.name)))
    chosen = rng.permutation(_usable_trials(task))[:rows]
    others = [record for record in past if record.name != task.name]
    drawn = [others[i] for i in rng.permutation(len(others))[:PAST_TASKS]]
    count = min([PAST_TRIALS, *(len(record.values) for record in drawn)])
    samples = [(record, rng.permutation(len(record.values))[:count]) for record in drawn]
    width = task.points.shape[1]
    return (
        task.points[chosen],
        task.values[chosen],
        np.stack([r.points[i] for r, i in samples]) if samples else np.empty((0, 1, width)),
        np.stack([r.values[i] for r, i in samples]) if samples else np.empty((0, 1)),
    )


def _usable_trials(task: Record) -> int:
    """Number of trials to sample from: of a long record the first half, which is less optimised.

    A task with too few trials for that is used as a whole.
    """
    half = len(task.values) // 2
    return half if half >= max(TRIALS) + QUERIES else len(task.values)


def with_trials(episodes: Episodes, count: int) -> Episodes:
    """Return the same studies and queries with only the first ``count`` trials."""
    queries = slice(episodes.trials, None)
    return replace(
        episodes,
        points=torch.cat([episodes.points[:, :count], episodes.points[:, queries]], 1),
        values=torch.cat([episodes.values[:, :count], episodes.values[:, queries]], 1),
        trials=count,
    )


# ---- quality -------------------------------------------------------------------------------


def quality(network: NeuralProcess, studies: Sequence[Episodes]) -> dict[int, Quality]:
    """Return the network's quality for each number of trials in ``TRIALS``.

    Args:
        network: On any device.
        studies: From ``held_out``.
    """
    results: dict[int, Quality] = {}
    for count in TRIALS:
        densities, correlations, cdf_values = [], [], []
        for predicted, targets in predictions(network, studies, count):
            densities.append(predicted.log_density(targets).flatten())
            cdf_values.append(predicted.cdf(targets).flatten())
            correlations += rank_correlations(predicted, targets)
        results[count] = Quality(
            float(torch.cat(densities).mean()),
            float(np.mean(correlations)),
            coverage(torch.cat(cdf_values)),
        )
    return results


def task_log_densities(network: NeuralProcess, studies: Sequence[Episodes]) -> Array:
    """Return each task's mean log density of the queries' scores: ``tasks x len(TRIALS)``.

    Args:
        network: On any device.
        studies: From ``held_out``.
    """
    columns = []
    for count in TRIALS:
        pairs = predictions(network, studies, count)
        columns.append(torch.cat([p.log_density(targets).mean(-1) for p, targets in pairs]))
    return torch.stack(columns, -1).double().cpu().numpy()


def prior_log_density(network: NeuralProcess, seed: int = 0) -> float:
    """Return the mean log density of the scores of synthetic tasks.

    Args:
        network: On any device.
        seed: Determines the tasks.
    """
    means = []
    for number in range(PRIOR_BATCHES):
        shape = draw_shape(np.random.default_rng((seed, number)), PRIOR_BUDGET)
        generator = torch.Generator().manual_seed(PRIOR_BATCHES * seed + number)
        predicted, targets = _predict(network, synthetic_episodes(shape, generator))
        means.append(float(predicted.log_density(targets.clamp_max(MAX_TARGET)).mean()))
    return float(np.mean(means))


def predictions(
    network: NeuralProcess, studies: Sequence[Episodes], count: int
) -> Iterator[tuple[BarDistribution, Tensor]]:
    """Yield predictions from ``count`` trials and the observed scores, for each batch."""
    for episodes in studies:
        yield _predict(network, with_trials(episodes, count))


def _predict(network: NeuralProcess, episodes: Episodes) -> tuple[BarDistribution, Tensor]:
    if not network.architecture.past:
        # Past tasks must not set the unit of the study either.
        episodes = without_past(episodes)
    batch = standardised(episodes).to(network.borders.device)
    with torch.no_grad():
        predicted = network(batch.description, batch.trials, batch.queries, batch.past)
    return predicted, batch.targets


def rank_correlations(predicted: BarDistribution, targets: Tensor) -> list[float]:
    """Return Spearman's correlation of predicted means and targets for each study."""
    pairs = zip(predicted.mean.cpu().numpy(), targets.cpu().numpy(), strict=True)
    return [rank_correlation(mean, target) for mean, target in pairs]


def rank_correlation(predicted: Array, values: Array) -> float:
    """Return Spearman's correlation, or 0 if either side is constant."""
    if np.ptp(predicted) == 0 or np.ptp(values) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(predicted), rankdata(values))[0, 1])
