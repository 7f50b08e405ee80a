"""How well a surrogate predicts tasks that it was not trained on.

Each held-out task is a present one, tasks of the same space in the training archive are its
past. The same studies are asked at several numbers of trials, so that their figures compare.

Notation: see ``episodes.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import rankdata

from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.surrogate.networks.space_description import stack
from metahpo.surrogate.neural.neural_process import NeuralProcess
from metahpo.surrogate.standardise import own_scale
from metahpo.tasks.space import Array
from metahpo.train.surrogate.episodes import (
    LARGEST_TARGET,
    Episodes,
    draw_shape,
    standardised,
    without_past,
)
from metahpo.train.surrogate.prior import synthetic_episodes
from metahpo.train.surrogate.recorded import Family, Record

TRIALS = (0, 3, 5, 10, 20)
PAST_TASKS, PAST_TRIALS, QUERIES = 20, 50, 200
# Queries that a held-out task must leave at least.
LEAST_QUERIES = 10
# Trials that a task needs to be asked about.
LEAST_TRIALS = max(TRIALS) + LEAST_QUERIES
# Batches of made-up tasks, and their size.
PRIOR_BATCHES, PRIOR_BUDGET = 24, 2000
# Shares of the central intervals whose coverage is measured.
INTERVALS = (0.5, 0.8, 0.95)


@dataclass(frozen=True)
class Quality:
    """Of predictions, over tasks and queries.

    Attributes:
        log_density: Mean logarithm of the predictive density of the scores.
        rank_correlation: Spearman's, of the means with the values; the mean over tasks.
        coverage: Of the central intervals in ``INTERVALS``.
    """

    log_density: float
    rank_correlation: float
    coverage: tuple[float, ...]


def held_out(
    history: Sequence[Family], families: Sequence[Family], most: int | None = None
) -> Iterator[Episodes]:
    """One batch for each family: its tasks with their past and as many trials as ever asked.

    Args:
        history: The training archive.
        families: Tasks that are not in it; those with too few trials are passed over.
        most: So many tasks a family at most, evenly spread.
    """
    known = {_key(family): family for family in history}
    for family in families:
        past = known.get(_key(family))
        tasks = [t for t in family.tasks if len(t.values) >= LEAST_TRIALS]
        if tasks:
            count = min(most or len(tasks), len(tasks))
            chosen = np.linspace(0, len(tasks) - 1, count).round().astype(int)
            yield _studies(family, [tasks[i] for i in chosen], past.tasks if past else ())


def _key(family: Family) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(family.space.to_json().items()))


def _studies(family: Family, tasks: Sequence[Record], past: Sequence[Record]) -> Episodes:
    rows = min([max(TRIALS) + QUERIES, *(_early(task) for task in tasks)])
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
    # Of the task's own, so that another selection of tasks changes nothing for this one.
    rng = np.random.default_rng(len(task.values) + sum(map(ord, task.name)))
    chosen = rng.permutation(_early(task))[:rows]
    others = [record for record in past if record.name != task.name]
    drawn = [others[i] for i in rng.permutation(len(others))[:PAST_TASKS]]
    most = min([PAST_TRIALS, *(len(record.values) for record in drawn)])
    seen = [(record, rng.permutation(len(record.values))[:most]) for record in drawn]
    width = task.points.shape[1]
    return (
        task.points[chosen],
        task.values[chosen],
        np.stack([r.points[s] for r, s in seen]) if seen else np.empty((0, 1, width)),
        np.stack([r.values[s] for r, s in seen]) if seen else np.empty((0, 1)),
    )


def _early(task: Record) -> int:
    """How many trials are asked about: the early ones of a long record, less optimised."""
    half = len(task.values) // 2
    return half if half >= max(TRIALS) + QUERIES else len(task.values)


def with_trials(episodes: Episodes, count: int) -> Episodes:
    """The same studies and queries with the first so many trials."""
    rest = slice(episodes.trials, None)
    return replace(
        episodes,
        points=torch.cat([episodes.points[:, :count], episodes.points[:, rest]], 1),
        values=torch.cat([episodes.values[:, :count], episodes.values[:, rest]], 1),
        trials=count,
    )


def quality(network: NeuralProcess, studies: Sequence[Episodes]) -> dict[int, Quality]:
    """The network's quality by number of trials.

    Args:
        network: On any device.
        studies: From ``held_out``.
    """
    found: dict[int, Quality] = {}
    for count in TRIALS:
        densities, correlations, places = [], [], []
        for answer, targets in answers(network, studies, count):
            densities.append(answer.log_density(targets).flatten())
            places.append(answer.cdf(targets).flatten())
            correlations += rank_correlations(answer, targets)
        found[count] = Quality(
            float(torch.cat(densities).mean()),
            float(np.mean(correlations)),
            coverage(torch.cat(places)),
        )
    return found


def log_densities(network: NeuralProcess, studies: Sequence[Episodes]) -> Array:
    """``tasks x len(TRIALS)``: each task's mean log density of the queries' scores.

    Args:
        network: On any device.
        studies: From ``held_out``.
    """
    columns = []
    for count in TRIALS:
        asked = answers(network, studies, count)
        columns.append(torch.cat([a.log_density(targets).mean(-1) for a, targets in asked]))
    return torch.stack(columns, -1).double().cpu().numpy()


def prior_density(network: NeuralProcess, seed: int = 0) -> float:
    """The mean log density of made-up tasks' scores, the same tasks for the same seed.

    Args:
        network: On any device.
        seed: Of the tasks.
    """
    means = []
    for number in range(PRIOR_BATCHES):
        shape = draw_shape(np.random.default_rng((seed, number)), PRIOR_BUDGET)
        generator = torch.Generator().manual_seed(PRIOR_BATCHES * seed + number)
        answer, targets = _answer(network, synthetic_episodes(shape, generator))
        means.append(float(answer.log_density(targets.clamp_max(LARGEST_TARGET)).mean()))
    return float(np.mean(means))


def answers(
    network: NeuralProcess, studies: Sequence[Episodes], count: int
) -> Iterator[tuple[BarDistribution, torch.Tensor]]:
    """Predictions from so many trials and the scores in fact, for each batch of studies."""
    for episodes in studies:
        yield _answer(network, with_trials(episodes, count))


def _answer(network: NeuralProcess, episodes: Episodes) -> tuple[BarDistribution, torch.Tensor]:
    seen = episodes if network.architecture.past else without_past(episodes)
    batch = standardised(seen).to(network.borders.device)
    with torch.no_grad():
        answer = network(batch.description, batch.trials, batch.queries, batch.past)
    return answer, batch.targets


def rank_correlations(answer: BarDistribution, targets: torch.Tensor) -> list[float]:
    """Spearman's rank correlation for each study; 0 where either side is constant."""
    pairs = zip(answer.mean.cpu().numpy(), targets.cpu().numpy(), strict=True)
    return [rank_correlation(mean, target) for mean, target in pairs]


def rank_correlation(predicted: Array, values: Array) -> float:
    """Spearman's; 0 where either side is constant."""
    if np.ptp(predicted) == 0 or np.ptp(values) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(predicted), rankdata(values))[0, 1])


def coverage(places: torch.Tensor) -> tuple[float, ...]:
    """Shares of values inside the central intervals.

    Args:
        places: Predictive distribution functions at the values.
    """
    return tuple(float(((places - 0.5).abs() <= share / 2).float().mean()) for share in INTERVALS)
