"""Augmentation of recorded episodes, to learn more from a few hundred tasks.

Bounds are narrowed, values warped, noise added, names removed, axes flipped, hyperparameters
dropped, or marked as unknown to past tasks. Notation: see ``episodes.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from metahpo.surrogate.networks.space_description import (
    CHOICE_SIGNS,
    HIGH_FACT,
    IDENTITY_SIGNS,
    LOW_FACT,
    Description,
)
from metahpo.tasks.alignment import OUTSIDE
from metahpo.tasks.space import Array, Space

# Lower and upper bounds in the unit cube, ``d`` each.
Box = tuple[Array, Array]


@dataclass(eq=False)
class Draft:
    """One episode before batching; arrays as in ``Episodes``, without the batch dimension.

    Attributes:
        description: The search space.
        points: ``(n + q) x d``.
        values: ``n + q``.
        all_values: Values of all recorded trials within the bounds.
        past_points: ``t x k x d``.
        past_values: ``t x k``.
        known: ``t x d``.
    """

    description: Description
    points: Array
    values: Array
    all_values: Array
    past_points: Array
    past_values: Array
    known: NDArray[np.bool_]


# ---- bounds --------------------------------------------------------------------------------


def draw_box(space: Space, points: Array, min_inside: int, rng: np.random.Generator) -> Box | None:
    """Draw narrower bounds for up to two numerical hyperparameters.

    Args:
        space: The recorded space.
        points: ``n x d`` recorded points.
        min_inside: Number of points that must lie inside the bounds.
        rng: Source of randomness.

    Returns:
        The bounds, or None to keep the recorded ones: in three of four cases, and whenever too
        few points lie inside.
    """
    numerical = np.flatnonzero(~np.asarray(space.is_categorical, bool))
    if rng.random() > 0.25 or not len(numerical):
        return None
    low, high = np.zeros(len(space)), np.ones(len(space))
    for column in rng.choice(numerical, min(2, len(numerical)), replace=False):
        width = rng.uniform(0.4, 1.0)
        low[column] = rng.uniform(0.0, 1.0 - width)
        high[column] = low[column] + width
    return (low, high) if inside(points, (low, high)).sum() >= min_inside else None


def rescaled(points: Array, box: Box | None) -> Array:
    """Return the points relative to the narrowed bounds."""
    if box is None:
        return points
    low, high = box
    return np.clip((points - low) / (high - low), -OUTSIDE, 1.0 + OUTSIDE)


def inside(points: Array, box: Box) -> NDArray[np.bool_]:
    """Return which points lie within the bounds: ``n``."""
    return ~np.any(np.abs(rescaled(points, box) - 0.5) > 0.5, axis=1)


def narrow_description(description: Description, box: Box | None) -> Description:
    """Return the description of the space with the narrowed bounds."""
    if box is None:
        return description
    facts = description.facts.clone()
    low, high = (torch.from_numpy(side).float() for side in box)
    start, end = facts[:, LOW_FACT].clone(), facts[:, HIGH_FACT].clone()
    facts[:, LOW_FACT] = start + (end - start) * low
    facts[:, HIGH_FACT] = start + (end - start) * high
    return replace(description, facts=facts)


# ---- values --------------------------------------------------------------------------------


def vary_values(draft: Draft, rng: np.random.Generator) -> None:
    """Apply the same warp to the values of all tasks, and add noise, each in some episodes."""
    if rng.random() < 0.25:
        _warp_values(draft, rng.uniform(0.6, 1.8))
    if rng.random() < 0.3:
        _add_noise(draft, 10 ** rng.uniform(-2.5, -0.5), rng)


def _warp_values(draft: Draft, power: float) -> None:
    reference = draft.all_values
    draft.values = _warped(draft.values, reference, power)
    draft.all_values = _warped(reference, reference, power)
    past = [_warped(values, values, power) for values in draft.past_values]
    draft.past_values = np.array(past).reshape(draft.past_values.shape)


def _warped(values: Array, reference: Array, power: float) -> Array:
    """Raise the distances to the best reference value to a power, which keeps the order."""
    best, worst = reference.max(), reference.min()
    share = np.maximum(best - values, 0.0) / max(best - worst, 1e-12)
    return -(share**power)


def _add_noise(draft: Draft, noise: float, rng: np.random.Generator) -> None:
    """Add noise with a standard deviation of ``noise`` times that of each task's values."""
    unit = float(np.std(draft.all_values))
    draft.values = draft.values + noise * unit * rng.standard_normal(draft.values.shape)
    units = draft.past_values.std(axis=-1, keepdims=True)
    past_noise = rng.standard_normal(draft.past_values.shape)
    draft.past_values = draft.past_values + noise * units * past_noise


# ---- spaces --------------------------------------------------------------------------------


def vary_space(draft: Draft, rng: np.random.Generator) -> None:
    """Remove names and flip axes; hide a hyperparameter from past tasks; drop some of them."""
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
    """Replace the codes of hyperparameter and choice names by random ones, and remove the roles.

    Args:
        description: Of one space or a batch of them.
        rng: Source of the new codes.
    """
    signs = rng.choice([-1.0, 1.0], (*description.identities.shape[:-1], IDENTITY_SIGNS))
    codes = rng.choice([-1.0, 1.0], (*description.choice_codes.shape[:-1], CHOICE_SIGNS))
    is_choice = (description.choice_codes != 0).numpy()
    return replace(
        description,
        roles=torch.zeros_like(description.roles),
        identities=torch.from_numpy(signs).float(),
        choice_codes=torch.from_numpy(codes * is_choice).float(),
    )
