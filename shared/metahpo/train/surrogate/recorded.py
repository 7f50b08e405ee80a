"""Episodes from recorded tasks.

The present task of an episode and its past tasks come from one family. Their trials are sampled
from what was recorded, some uniformly and some as an optimiser would have chosen them. To learn
more from a few hundred tasks, episodes are augmented (``variations.py``), and some past tasks are
replaced by tasks of another family or by their negative.

Notation: see ``episodes.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metahpo.surrogate.networks.space_description import stack
from metahpo.surrogate.standardise import own_scale
from metahpo.tasks.space import Array
from metahpo.train.surrogate.episodes import Episodes, Shape
from metahpo.train.surrogate.task_families import Family, Record, family_odds
from metahpo.train.surrogate.variations import (
    Draft,
    draw_box,
    inside,
    narrow_description,
    rescaled,
    vary_space,
    vary_values,
)

# Candidates drawn for each trial or query, from which it is chosen.
POOL = 3

# Points ``k x d`` and values ``k`` of a past task.
PastTask = tuple[Array, Array]


def recorded_episodes(
    families: Sequence[Family],
    shape: Shape,
    rng: np.random.Generator,
    only: int | None = None,
) -> Episodes:
    """Draw a batch of augmented episodes.

    Args:
        families: The families to draw from, with the probabilities ``family_odds``.
        shape: Sizes of the batch; the families determine the number of hyperparameters. There
            are fewer trials and queries if the shortest task is shorter.
        rng: Source of randomness.
        only: Index of the family to take all present tasks from; None to draw a family for each.
    """
    shape = _fitting(families, shape)
    if only is None:
        chosen = rng.choice(len(families), shape.episodes, p=family_odds(families))
    else:
        chosen = np.full(shape.episodes, only)
    drafts = [_augmented_draft(families, index, shape, rng) for index in chosen]
    return _batched(drafts, shape.trials)


def _fitting(families: Sequence[Family], shape: Shape) -> Shape:
    shortest = min(len(task.values) for family in families for task in family.tasks)
    trials = min(shape.trials, shortest // 2)
    return replace(shape, trials=trials, queries=min(shape.queries, shortest - trials))


def _augmented_draft(
    families: Sequence[Family], index: int, shape: Shape, rng: np.random.Generator
) -> Draft:
    family = families[index]
    order = rng.permutation(len(family.tasks))
    target, others = family.tasks[order[0]], [family.tasks[i] for i in order[1:]]
    box = draw_box(family.space, target.points, POOL * (shape.trials + shape.queries), rng)
    within = slice(None) if box is None else inside(target.points, box)
    points, values = rescaled(target.points[within], box), target.values[within]
    rows = _present_rows(values, shape, rng)
    past = _past_tasks(families, family, others, shape, rng)
    width = len(family.space)
    draft = Draft(
        description=narrow_description(family.description, box),
        points=points[rows],
        values=values[rows],
        all_values=values,
        past_points=np.stack([rescaled(p, box) for p, _ in past])
        if past
        else np.empty((0, 1, width)),
        past_values=np.stack([v for _, v in past]) if past else np.empty((0, 1)),
        known=np.ones((len(past), width), bool),
    )
    vary_values(draft, rng)
    vary_space(draft, rng)
    return draft


def _present_rows(values: Array, shape: Shape, rng: np.random.Generator) -> NDArray[np.int_]:
    """Choose rows for trials, then for queries; half of the queries prefer good values."""
    greed = max(0.0, rng.uniform(-2.0, 3.0))
    # In most recorded studies, the early trials are the less optimised ones.
    pool = rng.permutation(len(values) // 2 if rng.random() < 0.5 else len(values))
    trials = _biased_rows(values, pool[: POOL * shape.trials], shape.trials, greed, rng)
    unused = np.setdiff1d(np.arange(len(values)), trials)
    unused = unused[rng.permutation(len(unused))[: POOL * shape.queries]]
    good = _biased_rows(values, unused, shape.queries // 2, 2.0, rng)
    unused = np.setdiff1d(unused, good)
    rest = rng.choice(unused, shape.queries - len(good), replace=False)
    return np.concatenate([trials, good, rest])


def _biased_rows(
    values: Array, rows: NDArray[np.int_], count: int, greed: float, rng: np.random.Generator
) -> NDArray[np.int_]:
    """Choose ``count`` of the rows, preferring good ranks (Gumbel top-k sampling)."""
    if count >= len(rows):
        return rows[:count]
    ranks = np.argsort(np.argsort(values[rows])) / max(len(rows) - 1, 1)
    keys = greed * 3.5 * (ranks - 0.5) + rng.gumbel(size=len(rows))
    return rows[np.argpartition(-keys, count - 1)[:count]]


# ---- past tasks ----------------------------------------------------------------------------


def _past_tasks(
    families: Sequence[Family],
    family: Family,
    others: Sequence[Record],
    shape: Shape,
    rng: np.random.Generator,
) -> list[PastTask]:
    """Draw t past tasks of the same family, completed by unrelated ones, some misleading."""
    width = len(family.space)
    past = [_past_trials(record, shape.past_trials, rng) for record in others[: shape.past_tasks]]
    while len(past) < shape.past_tasks:
        past.append(_unrelated(families, width, shape.past_trials, rng))
    return _misleading(past, families, width, shape.past_trials, rng)


def _past_trials(record: Record, count: int, rng: np.random.Generator) -> PastTask:
    greed = max(0.0, rng.uniform(-2.0, 3.0))
    early = rng.random() < 0.5 and len(record.values) >= 2 * count
    pool = rng.permutation(len(record.values) // 2 if early else len(record.values))
    rows = _biased_rows(record.values, pool[: POOL * count], count, greed, rng)
    if len(rows) < count:
        rows = np.concatenate([rows, rng.choice(rows, count - len(rows))])
    return record.points[rows], record.values[rows]


def _misleading(
    past: list[PastTask],
    families: Sequence[Family],
    width: int,
    count: int,
    rng: np.random.Generator,
) -> list[PastTask]:
    """Replace some past tasks by unrelated ones, negate some, and rescale some."""
    unrelated = max(0.0, rng.uniform(-0.5, 0.5)) if rng.random() > 0.05 else 1.0
    negated = 1.0 if rng.random() < 0.05 else 0.02
    unit_spread = 2.0 if rng.random() < 0.05 else 0.0
    result = []
    for trials in past:
        points, values = trials
        if rng.random() < unrelated:
            points, values = _unrelated(families, width, count, rng)
        if rng.random() < negated:
            values = -values
        result.append((points, values * np.exp(unit_spread * rng.standard_normal())))
    return result


def _unrelated(
    families: Sequence[Family], width: int, count: int, rng: np.random.Generator
) -> PastTask:
    """Draw a task of any family, with its columns shuffled and given the present names."""
    family = families[int(rng.integers(len(families)))]
    points, values = _past_trials(family.tasks[int(rng.integers(len(family.tasks)))], count, rng)
    columns = rng.permutation(np.arange(max(width, points.shape[1])) % points.shape[1])[:width]
    return points[:, columns], values


# ---- batches -------------------------------------------------------------------------------


def _batched(drafts: Sequence[Draft], trials: int) -> Episodes:
    width = max(draft.points.shape[-1] for draft in drafts)
    scales = [own_scale(torch.from_numpy(draft.all_values)) for draft in drafts]
    known = torch.stack([_padded(torch.from_numpy(d.known), width, True) for d in drafts])
    return Episodes(
        description=stack([draft.description for draft in drafts]),
        points=_stacked([draft.points for draft in drafts], width),
        values=torch.from_numpy(np.stack([draft.values for draft in drafts])),
        trials=trials,
        population=type(scales[0])(*map(torch.stack, zip(*scales, strict=True))),
        past_points=_stacked([draft.past_points for draft in drafts], width),
        past_values=torch.from_numpy(np.stack([draft.past_values for draft in drafts])),
        known=known,
        relevance=torch.zeros(known.shape[:2]),
    )


def _stacked(arrays: Sequence[Array], width: int) -> Tensor:
    return torch.stack([_padded(torch.from_numpy(a).float(), width, torch.nan) for a in arrays])


def _padded(tensor: Tensor, width: int, value: float | bool) -> Tensor:
    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[-1]), value=value)
