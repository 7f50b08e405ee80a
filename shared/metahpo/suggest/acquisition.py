"""Expected improvement, maximised with gradients and discrete moves over a mixed space.

A sampled maximum of the acquisition function stalls after some twenty trials. So the best samples
are improved by gradients in the numerical hyperparameters and by single changes in the discrete
ones, in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.stats import qmc
from torch import Tensor

from metahpo.settings import Effort, SearchSettings
from metahpo.suggest.decision import Part
from metahpo.suggest.hopeless import hopeless_part
from metahpo.surrogate.contract import Improvement
from metahpo.tasks.space import INACTIVE_POSITION, Array, Space

# Improvements at ``b x d`` points, differentiable in numerical hyperparameters.
Acquisition: TypeAlias = Callable[[Tensor], Improvement]


class Maximum(NamedTuple):
    """Where an acquisition function is large.

    Attributes:
        points: ``n x d`` distinct points that exist, the largest value first.
        hopeless: The part of the space that Sobol points show to be hopeless, by hyperparameter
            (``metahpo.suggest.hopeless``).
    """

    points: Array
    hopeless: dict[str, Part]


def maximise(
    acquisition: Acquisition,
    space: Space,
    best: Array,
    candidates: Array,
    rng: np.random.Generator,
    effort: Effort,
    settings: SearchSettings,
    held: Array | None = None,
    cells: Array | None = None,
) -> Maximum:
    """Points of large acquisition value.

    Args:
        acquisition: What is maximised.
        space: The space, with its conditions.
        best: ``k x d``, the best trials so far; points around them are tried.
        candidates: ``m x d``, further points to try (the past's best configurations).
        rng: Of the samples.
        effort: How hard to search.
        settings: What counts as hopeless (choices that are no longer tried one by one), and which
            numbers have few levels.
        held: ``d``, positions that all points have; NaN where there is a choice.
        cells: ``c x d``, c at least 1, the only points to choose from, where they are few enough
            to be listed; they are ranked, and nothing is searched.
    """
    held = np.full(len(space), np.nan) if held is None else held
    sobol = qmc.Sobol(len(space), rng=rng).random(effort.samples)
    if cells is None:
        around = _neighbours(space, best[: effort.centres], effort.neighbours, rng)
        pool = space.canonical(np.concatenate([sobol, around, candidates]), held)
    else:
        pool = np.concatenate([space.canonical(sobol, held), cells])
    improvement = _evaluate(acquisition, pool)
    values = improvement.log_expected.numpy()
    probabilities = improvement.probability.numpy()[: effort.samples]
    # Of what is held there is no choice, hopeless or not.
    free = np.where(np.isnan(held), pool[: effort.samples], np.nan)
    hopeless = hopeless_part(space, free, probabilities, settings)
    if cells is not None:
        return Maximum(_largest(cells, values[effort.samples :], effort.starts)[0], hopeless)
    found = _largest(pool, values, effort.starts)
    promising = np.concatenate([best, candidates])
    for _ in range(effort.turns):
        climbed = _climb(acquisition, space, found[0], effort.iterations, held)
        positions = _candidate_levels(space, promising, settings, rng, held)
        changed = _single_changes(space, climbed, positions, hopeless, held)
        fresh = np.concatenate([climbed, changed])
        values = _evaluate(acquisition, fresh).log_expected.numpy()
        found = _largest(
            np.concatenate([found[0], fresh]), np.concatenate([found[1], values]), effort.starts
        )
    return Maximum(found[0], hopeless)


def _largest(points: Array, values: Array, count: int) -> tuple[Array, Array]:
    """The distinct points of largest value and their values, largest first."""
    first = Space.distinct(points)
    order = first[np.argsort(-values[first], kind="stable")][:count]
    return points[order], values[order]


def _evaluate(acquisition: Acquisition, points: Array) -> Improvement:
    with torch.no_grad():
        return acquisition(torch.as_tensor(points))


def _neighbours(space: Space, centres: Array, count: int, rng: np.random.Generator) -> Array:
    """Points around each centre: some columns moved, half of them little, half of them far."""
    around = np.repeat(np.where(np.isnan(centres), INACTIVE_POSITION, centres), count, axis=0)
    moved = rng.random(around.shape) < max(0.3, 1.0 / max(len(space), 1))
    scale = np.where(np.arange(len(around)) % 2 == 0, 0.02, 0.1)[:, None]
    near = np.clip(around + scale * rng.standard_normal(around.shape), 0.0, 1.0)
    anywhere = rng.random(around.shape)
    stepped = np.where(np.asarray(space.is_categorical, dtype=bool), anywhere, near)
    return np.where(moved, stepped, around)


def _climb(
    acquisition: Acquisition, space: Space, points: Array, iterations: int, held: Array
) -> Array:
    """Points after gradient ascent in their active numerical hyperparameters.

    All starts are climbed together as one problem, the sum of their acquisition values, which
    costs one evaluation of a batch per step instead of one per start.
    """
    columns = [
        column
        for column, categorical in enumerate(space.is_categorical)
        if not categorical and space.levels[column] != 1 and np.isnan(held[column])
    ]
    if not columns:
        return points
    active = ~np.isnan(points[:, columns])
    start = np.where(active, points[:, columns], INACTIVE_POSITION)
    base, mask = torch.as_tensor(points), torch.as_tensor(active)

    def negative(flat: Array) -> tuple[float, Array]:
        moved = torch.from_numpy(flat.reshape(start.shape).copy()).requires_grad_()
        placed = base.clone()
        placed[:, columns] = torch.where(mask, moved, base[:, columns])
        total = -acquisition(placed).log_expected.sum()
        if not total.requires_grad:
            return total.item(), np.zeros(flat.size)
        (gradient,) = torch.autograd.grad(total, moved)
        return total.item(), gradient.numpy().ravel()

    result = minimize(
        negative,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, 1.0)] * start.size,
        options={"maxiter": iterations},
    )
    climbed = points.copy()
    climbed[:, columns] = np.where(active, result.x.reshape(start.shape), np.nan)
    return space.canonical(climbed, held)


def _candidate_levels(
    space: Space,
    promising: Array,
    settings: SearchSettings,
    rng: np.random.Generator,
    held: Array,
) -> dict[int, Array]:
    """Positions of the levels that are tried one by one, by column, ascending.

    Args:
        space: The space.
        promising: ``m x d`` points whose choices come first where there are too many.
        settings: How many levels are few, and how many choices are tried.
        rng: Of the other choices where there are too many.
        held: ``d``, positions of columns without a choice; NaN elsewhere.
    """
    positions: dict[int, Array] = {}
    for column, levels in enumerate(space.levels):
        few = 2 <= levels <= settings.few_levels or space.is_categorical[column]
        if not few or not np.isnan(held[column]):
            continue
        candidates = space.level_positions(column)
        if levels > settings.most_choices:
            own = promising[:, column]
            known = dict.fromkeys((own[(own >= 0.0) & (own <= 1.0)] * levels).astype(int).tolist())
            drawn = rng.choice(levels, settings.most_choices, replace=False).tolist()
            indices = [*list(known)[: settings.most_choices // 2], *drawn]
            chosen = np.array(list(dict.fromkeys(indices))[: settings.most_choices])
            candidates = candidates[np.sort(chosen.clip(0, levels - 1))]
        positions[column] = candidates
    return positions


def _single_changes(
    space: Space,
    points: Array,
    positions: Mapping[int, Array],
    hopeless: Mapping[str, Part],
    held: Array,
) -> Array:
    """Every point with one discrete value changed: another choice, one level up or down.

    Args:
        space: The space.
        points: ``n x d``.
        positions: From ``_candidate_levels``.
        hopeless: Choices that are left out.
        held: ``d``, positions that all points have; NaN where there is a choice.
    """
    changed: list[Array] = []
    for column, levels in positions.items():
        left_out = _hopeless_positions(space, column, hopeless)
        for point in points:
            others = _other_positions(space, column, point[column], levels)
            others = others[~np.isin(others, left_out)]
            neighbours = np.repeat(point[None], len(others), axis=0)
            neighbours[:, column] = others
            changed.append(neighbours)
    if not changed:
        return np.empty((0, len(space)))
    return space.canonical(np.concatenate(changed), held)


def _other_positions(space: Space, column: int, position: float, positions: Array) -> Array:
    """Positions of the levels that one at ``position`` may be changed to."""
    if np.isnan(position):
        return positions[:0]
    if space.is_categorical[column]:
        return positions[np.abs(positions - position) > 0.5 / space.levels[column]]
    current = int(np.argmin(np.abs(positions - position)))
    return positions[[i for i in (current - 1, current + 1) if 0 <= i < len(positions)]]


def _hopeless_positions(space: Space, column: int, hopeless: Mapping[str, Part]) -> Array:
    """Positions of the choices of a hyperparameter that are hopeless."""
    name = space.names[column]
    choices = hopeless[name].choices if name in hopeless else ()
    return space.encode([{name: choice} for choice in choices])[:, column]
