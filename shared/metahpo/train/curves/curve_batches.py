"""Batches of studies of learning curves to meta-train on.

A batch has B studies of m curves, the first k of them context, all observed up to one progress.

Notation: see ``surrogate/curves/curve_process.py``; at most n reports in a curve, d
hyperparameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from metahpo.surrogate.curves.curve_values import Curves, interpolated
from metahpo.surrogate.networks.space_description import Description
from metahpo.train.draw import Draw

# Predicted curves in each study, and query progresses of each.
TARGETS, QUERIES = 6, 4
MAX_CONTEXT = 10


@dataclass(frozen=True, eq=False)
class CurveBatch:
    """The network's inputs and targets.

    Attributes:
        description: B spaces.
        curves: ``B x m``, full length.
        now: ``B``, the progress up to which curves are observed.
        queries: ``B x r`` progresses; the first is 1, the end.
        context: k.
        targets: ``B x m x r`` values, NaN where a curve has none.
    """

    description: Description
    curves: Curves
    now: Tensor
    queries: Tensor
    context: int
    targets: Tensor

    def to(self, device: torch.device) -> CurveBatch:
        """Return a copy on the given device."""
        return replace(
            self,
            description=self.description.to(device),
            curves=Curves(*(part.to(device) for part in self.curves)),
            **{name: getattr(self, name).to(device) for name in ("now", "queries", "targets")},
        )


def draw_context(rng: np.random.Generator) -> int:
    """Draw the number of context curves; a quarter of the batches has none."""
    return 0 if rng.random() < 0.25 else int(rng.integers(1, MAX_CONTEXT + 1))


def with_queries(
    description: Description, curves: Curves, context: int, generator: torch.Generator
) -> CurveBatch:
    """Make a batch of curves, with random queries and a random present progress.

    Args:
        description: B spaces.
        curves: ``B x m``, full length.
        context: k.
        generator: Source of randomness.
    """
    draw = Draw(generator)
    batch = len(curves.progress)
    now = draw.uniform(0, 1, batch).double() ** 1.5 * 0.95
    # Late enough for one report of each predicted curve, if it has any.
    first = curves.progress[:, context:, 0].nan_to_num(0.0).amax(-1)
    now = now.maximum(first)
    ahead = now.unsqueeze(-1) + (1.0 - now.unsqueeze(-1)) * draw.uniform(0, 1, batch, 2)
    anywhere = draw.uniform(0, 1, batch, 1).double()
    queries = torch.cat([torch.ones(batch, 1, dtype=torch.float64), ahead, anywhere], -1)
    each = queries.unsqueeze(1).expand(-1, curves.progress.shape[1], -1)
    targets = interpolated(curves.progress, curves.values, each)
    return CurveBatch(description, curves, now, queries, context, targets)
