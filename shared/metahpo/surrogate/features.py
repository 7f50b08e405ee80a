"""Points as features: what kernels and trees measure distances between.

Notation (see also ``metahpo.tasks.space``):

    p   features: numerical hyperparameters as they are, a categorical one as K columns (one-hot;
        a code where choices are many), and an activity column for each hyperparameter that can be
        inactive
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metahpo.tasks.alignment import AlignedTask
from metahpo.tasks.space import INACTIVE_POSITION, Array, Space

# Two choices of a categorical one-hot lie sqrt(2) apart; scaled, they lie one range apart.
ONE_HOT_SCALE = 1.0 / math.sqrt(2.0)
# More choices than this are told apart by random signs, so many of them, instead of one-hot: two
# choices then lie one range apart give or take a tenth (Johnson and Lindenstrauss 1984), and what
# is made of n points takes n times this at most, not n times the number of choices.
MOST_ONE_HOT = 128


class FeatureMap:
    """The features of a space's points.

    Args:
        space: The space, with its conditions.

    Attributes:
        owner: p, the hyperparameter (column of a point) each feature comes from; activity columns
            come last and own themselves: d, d + 1, ...
    """

    def __init__(self, space: Space) -> None:
        choices = [n if c else 0 for n, c in zip(space.levels, space.is_categorical, strict=True)]
        conditional = [i for i, name in enumerate(space.names) if name in space.conditions]
        widths = [min(count, MOST_ONE_HOT) or 1 for count in choices]
        columns = np.repeat(np.arange(len(space)), widths)
        self.owner = (*columns.tolist(), *range(len(space), len(space) + len(conditional)))
        # For each feature, the column that it is made from, the number of its choices and the
        # choice that it stands for; 1 and 0 where it stands for none.
        self._column = np.array([*columns, *conditional], dtype=int)
        self._count = torch.ones(len(self.owner), dtype=torch.float64)
        self._choice = torch.zeros(len(self.owner), dtype=torch.float64)
        self._is_choice = torch.zeros(len(self.owner), dtype=torch.bool)
        self._is_activity = torch.arange(len(self.owner)) >= len(columns)
        # Of each hyperparameter with many choices: its column, its features and its codes.
        self._coded: list[tuple[int, slice, Tensor]] = []
        first = 0
        for column, (count, width) in enumerate(zip(choices, widths, strict=True)):
            own = slice(first, first + width)
            first += width
            if count > MOST_ONE_HOT:
                self._coded.append((column, own, _codes(count)))
            elif count:
                self._count[own] = float(count)
                self._choice[own] = torch.arange(width, dtype=torch.float64)
                self._is_choice[own] = True

    def __call__(self, points: Tensor) -> Tensor:
        """Features, differentiable in the numerical hyperparameters.

        Args:
            points: ``... x d``, NaN where inactive.

        Returns:
            ``... x p``, without NaN: an inactive number is put halfway, an inactive categorical
            has no choice, and the activity columns show which were inactive.
        """
        own = points[..., self._column]
        active = ~own.isnan()
        placed = torch.where(active, own, INACTIVE_POSITION)
        chosen = (placed * self._count).floor().clamp_min(0.0).minimum(self._count - 1.0)
        one_hot = ONE_HOT_SCALE * (active & (chosen == self._choice)).to(own.dtype)
        other = torch.where(self._is_activity, active.to(own.dtype), placed)
        features = torch.where(self._is_choice, one_hot, other)
        for column, coded, codes in self._coded:
            features[..., coded] = _coded(points[..., column].detach(), codes)
        return features

    def array(self, points: Array) -> Array:
        """The same for arrays: ``n x p`` features of ``n x d`` points."""
        return self(torch.as_tensor(points, dtype=torch.float64)).numpy()

    def of_task(self, task: AlignedTask) -> Array:
        """Features of a past task's trials, constant where it lacks the hyperparameter.

        Args:
            task: A past task of n trials.

        Returns:
            ``n x p``.
        """
        return np.where(self.shared_by(task), self.array(task.points), self.constant)

    def shared_by(self, task: AlignedTask) -> NDArray[np.bool_]:
        """``p``: whether each feature comes from a hyperparameter that the past task has."""
        return task.shared[self._column]

    @property
    def constant(self) -> Array:
        """``p``: what features are held at that carry no information."""
        nothing = self.array(np.full((1, int(self._column.max(initial=-1)) + 1), np.nan))[0]
        return np.where(self._is_activity.numpy(), INACTIVE_POSITION, nothing)


def _codes(count: int) -> Tensor:
    """``count x MOST_ONE_HOT`` codes of choices, the same for every space."""
    signs = np.random.default_rng(count).choice([-1.0, 1.0], (count, MOST_ONE_HOT))
    # Two codes differ in half of their signs; one without a choice is as far from each as one-hot.
    return torch.from_numpy(signs * (ONE_HOT_SCALE / math.sqrt(MOST_ONE_HOT)))


def _coded(positions: Tensor, codes: Tensor) -> Tensor:
    """``... x MOST_ONE_HOT`` codes of the choices at positions; 0 where there is none (NaN)."""
    active = ~positions.isnan()
    chosen = (torch.where(active, positions, 0.0) * len(codes)).floor().long()
    return codes[chosen.clamp(0, len(codes) - 1)] * active.unsqueeze(-1)
