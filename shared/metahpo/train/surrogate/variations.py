"""Variations of recorded episodes, so that a few hundred tasks teach more than themselves.

Bounds narrowed, values bent, noise added, names forgotten, axes turned, hyperparameters left out
or unknown to the past. Notation: see ``episodes.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from metahpo.surrogate.networks.space_description import (
    CHOICE_SIGNS,
    IDENTITY_SIGNS,
    Description,
)
from metahpo.tasks.alignment import OUTSIDE
from metahpo.tasks.space import Array, Space


@dataclass(eq=False)
class Draft:
    """One episode before it is part of a batch; arrays as in ``Episodes``, without B."""

    description: Description
    points: Array
    values: Array
    everything: Array
    past_points: Array
    past_values: Array
    known: NDArray[np.bool_]


Box = tuple[Array, Array]


def narrowed(space: Space, points: Array, least: int, rng: np.random.Generator) -> Box | None:
    """Bounds inside the recorded ones, in which so many of the points lie at least."""
    numerical = np.flatnonzero(~np.asarray(space.is_categorical, bool))
    if rng.random() > 0.25 or not len(numerical):
        return None
    low, high = np.zeros(len(space)), np.ones(len(space))
    for column in rng.choice(numerical, min(2, len(numerical)), replace=False):
        width = rng.uniform(0.4, 1.0)
        low[column] = rng.uniform(0.0, 1.0 - width)
        high[column] = low[column] + width
    return (low, high) if inside(points, (low, high)).sum() >= least else None


def moved(points: Array, box: Box | None) -> Array:
    """Points placed in the narrowed bounds."""
    if box is None:
        return points
    low, high = box
    return np.clip((points - low) / (high - low), -OUTSIDE, 1.0 + OUTSIDE)


def inside(points: Array, box: Box) -> NDArray[np.bool_]:
    """Which points lie within the bounds."""
    return ~np.any(np.abs(moved(points, box) - 0.5) > 0.5, axis=1)


def narrow_facts(description: Description, box: Box | None) -> Description:
    """The description of the narrowed space."""
    if box is None:
        return description
    facts = description.facts.clone()
    low, high = (torch.from_numpy(side).float() for side in box)
    start, end = facts[:, 4].clone(), facts[:, 5].clone()
    facts[:, 4], facts[:, 5] = start + (end - start) * low, start + (end - start) * high
    return replace(description, facts=facts)


def vary_values(draft: Draft, rng: np.random.Generator) -> None:
    """The same bend for all tasks, and noise."""
    if rng.random() < 0.25:
        power = rng.uniform(0.6, 1.8)
        reference = draft.everything
        draft.values = _bent(draft.values, reference, power)
        draft.everything = _bent(reference, reference, power)
        draft.past_values = np.array([_bent(v, v, power) for v in draft.past_values]).reshape(
            draft.past_values.shape
        )
    if rng.random() < 0.3:
        noise = 10 ** rng.uniform(-2.5, -0.5)
        unit = float(np.std(draft.everything))
        draft.values = draft.values + noise * unit * rng.standard_normal(draft.values.shape)
        units = draft.past_values.std(axis=-1, keepdims=True)
        draft.past_values = draft.past_values + noise * units * rng.standard_normal(
            draft.past_values.shape
        )


def _bent(values: Array, reference: Array, power: float) -> Array:
    """Distances from the reference's best to a power: its order stays."""
    best, worst = reference.max(), reference.min()
    share = np.maximum(best - values, 0.0) / max(best - worst, 1e-12)
    return -(share**power)


def vary_space(draft: Draft, rng: np.random.Generator) -> None:
    """Names forgotten and axes turned; hyperparameters left out, or unknown to the past."""
    description, d = draft.description, draft.points.shape[1]
    if rng.random() < 0.4:
        numerical = (description.choices == 0).numpy()
        for column in np.flatnonzero(numerical & (rng.random(d) < 0.4)):
            draft.points[:, column] = 1.0 - draft.points[:, column]
            draft.past_points[..., column] = 1.0 - draft.past_points[..., column]
        description = anonymous(description, rng)
    if rng.random() < 0.15 and draft.known.size:
        draft.known[:, rng.integers(d)] = False
        draft.past_points[np.broadcast_to(~draft.known[:, None], draft.past_points.shape)] = np.nan
    if rng.random() < 0.25 and d > 2:
        kept = torch.from_numpy(np.sort(rng.permutation(d)[rng.integers(1, 1 + d // 3) :]))
        description = description.permuted(kept)
        draft.points = draft.points[:, kept.numpy()]
        draft.past_points = draft.past_points[..., kept.numpy()]
        draft.known = draft.known[:, kept.numpy()]
    draft.description = description


def anonymous(description: Description, rng: np.random.Generator) -> Description:
    """Nothing of the names is left; nor of the choices' names.

    Args:
        description: Of one space or a batch of them.
        rng: Of the codes in place of the names'.
    """
    signs = rng.choice([-1.0, 1.0], (*description.identities.shape[:-1], IDENTITY_SIGNS))
    codes = rng.choice([-1.0, 1.0], (*description.choice_codes.shape[:-1], CHOICE_SIGNS))
    chosen = (description.choice_codes != 0).numpy()
    return replace(
        description,
        roles=torch.zeros_like(description.roles),
        identities=torch.from_numpy(signs).float(),
        choice_codes=torch.from_numpy(codes * chosen).float(),
    )
