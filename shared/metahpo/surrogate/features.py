"""Points as features: what kernels and trees measure distances between.

Notation (see also ``metahpo.tasks.space``):

    p   features: numerical hyperparameters as they are, a categorical one as K columns (one-hot),
        and an activity column for each hyperparameter that can be inactive
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
        columns = [i for i, count in enumerate(choices) for _ in range(count or 1)]
        self.owner = (*columns, *range(len(space), len(space) + len(conditional)))
        # For each feature, the column that it is made from, the number of its choices and the
        # choice that it stands for; 1 and 0 where it stands for none.
        self._column = np.array([*columns, *conditional], dtype=int)
        self._count = torch.ones(len(self.owner), dtype=torch.float64)
        self._choice = torch.zeros(len(self.owner), dtype=torch.float64)
        self._is_choice = torch.zeros(len(self.owner), dtype=torch.bool)
        self._is_activity = torch.arange(len(self.owner)) >= len(columns)
        for column, count in enumerate(choices):
            own = [feature for feature, owner in enumerate(columns) if count and owner == column]
            self._count[own] = float(count)
            self._choice[own] = torch.arange(len(own), dtype=torch.float64)
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
        return torch.where(self._is_choice, one_hot, other)

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
