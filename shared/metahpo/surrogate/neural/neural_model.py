"""The neural process as a BoTorch model of one study.

Points in, distributions over scores out. Past tasks are encoded once (``EncodedPast``) and serve
every suggestion of a study.

Notation: see ``metahpo.tasks.space``; t past tasks, m tokens each, K bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from metahpo.surrogate.networks.bar_posterior import BarPosterior
from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.surrogate.networks.configuration_encoder import Spaces
from metahpo.surrogate.networks.space_description import describe
from metahpo.surrogate.neural.neural_process import (
    Context,
    NeuralProcess,
    PastTrials,
    Tokens,
    Trials,
)
from metahpo.surrogate.score_model import ScoreModel
from metahpo.surrogate.scores import have_units
from metahpo.surrogate.standardise import (
    LARGEST_SCORE,
    Scale,
    own_scale,
    rank_scores,
    study_scale,
    two_views,
)
from metahpo.tasks.alignment import AlignedTask
from metahpo.tasks.space import Array, Space

# Relevance below this is as good as none; its logarithm stays finite.
LEAST_RELEVANCE = 1e-6


@dataclass(frozen=True, eq=False)
class EncodedPast:
    """Past tasks as tokens, and the unit of their values.

    Attributes:
        tokens: ``t * m`` of them, for one study.
        unit: Their usual unit, float64.
        count: ``t``.
    """

    tokens: Tokens
    unit: Tensor
    count: int

    def without(self, task: int) -> EncodedPast:
        """All but one of the past tasks.

        Args:
            task: Its index.
        """
        content, places, placed = self.tokens
        each = len(placed) // self.count
        kept = torch.ones(len(placed), dtype=torch.bool)
        kept[task * each : (task + 1) * each] = False
        tokens = Tokens(content[:, kept], places[:, kept], placed[kept])
        return replace(self, tokens=tokens, count=self.count - 1)


def encode_past(
    network: NeuralProcess,
    tasks: Sequence[AlignedTask],
    space: Space,
    relevance: Array | None = None,
) -> EncodedPast | None:
    """Encode past tasks, once for a study.

    Args:
        network: The network.
        tasks: ``t`` past tasks aligned to ``space``, thinned.
        space: The present space.
        relevance: ``t`` weights that sum to 1, where meta-features say which tasks matter.

    Returns:
        Their tokens; None without any task, and for a network that reads none.
    """
    if not tasks or not network.architecture.past:
        return None
    points, values = _padded(tasks, len(space))
    scale = own_scale(values)
    logs = None
    if relevance is not None:
        weights = np.maximum(relevance * len(tasks), LEAST_RELEVANCE)
        logs = torch.from_numpy(np.log(weights)).float()[None]
    past = PastTrials(
        Trials(points[None], two_views(values, scale)[None]),
        known=torch.from_numpy(np.stack([task.shared for task in tasks]))[None],
        present=~values.isnan()[None],
        relevance=logs,
    )
    with torch.no_grad():
        tokens = network.encode_past(encoded_space(network, space), past)
    return EncodedPast(tokens, scale.unit.log().median().exp(), len(tasks))


def _padded(tasks: Sequence[AlignedTask], d: int) -> tuple[Tensor, Tensor]:
    """Points ``t x n x d`` and values ``t x n``, NaN where a task has fewer trials."""
    most = max(len(task.values) for task in tasks)
    points = np.full((len(tasks), most, d), np.nan, np.float32)
    values = np.full((len(tasks), most), np.nan)
    for row, task in enumerate(tasks):
        points[row, : len(task.values)] = task.points
        values[row, : len(task.values)] = task.values
    return torch.from_numpy(points), torch.from_numpy(values)


class NeuralModel(ScoreModel):
    """What the network predicts for one study.

    Args:
        network: The network, ready to predict.
        space: The study's space.
        points: ``n x d`` observed trials, n at least 0.
        values: ``n``.
        past: From ``encode_past``.
        encoded: The space, from ``encoded_space``; encoded when needed if it is None.

    Attributes:
        scale: From values to the scores that are predicted.
        has_unit: Whether the scale's unit is that of the values; else it is made up: scores can be
            predicted, values cannot.
    """

    def __init__(
        self,
        network: NeuralProcess,
        space: Space,
        points: Array,
        values: Array,
        past: EncodedPast | None = None,
        *,
        encoded: Spaces | None = None,
    ) -> None:
        super().__init__()
        self._encoded = encoded
        # Not a submodule: BoTorch would turn a network that others use as well to float64.
        self._networks = (network,)
        self.space, self.past = space, past
        observed = torch.as_tensor(np.asarray(values, float))
        self.scale: Scale = study_scale(observed, past.unit if past else None)
        self.has_unit = past is not None or bool(have_units(observed))
        self.points = torch.as_tensor(points, dtype=torch.float32)
        self.scores = self.scale.scores(observed)

    def condition_on_means(self, points: Tensor) -> NeuralModel:
        """This model after observing its own mean at ``m x d`` points.

        The kriging believer of Ginsbourger et al. 2010.
        """
        with torch.no_grad():
            means = self.predictive(points).mean.float()
        nothing = np.empty((0, len(self.space))), np.empty(0)
        other = NeuralModel(self.network, self.space, *nothing, self.past, encoded=self._encoded)
        other.scale, other.has_unit = self.scale, self.has_unit
        other.points = torch.cat([self.points, points.float()])
        other.scores = torch.cat([self.scores, means])
        return other

    @property
    def network(self) -> NeuralProcess:
        """The network, in float32."""
        return self._networks[0]

    @cached_property
    def incumbent(self) -> float:
        """The best score observed; 0, the middle, where there is none."""
        return float(self.scores.max()) if len(self.scores) else 0.0

    @cached_property
    def _conditioned(self) -> tuple[Spaces, Context]:
        """The encoded space and the context, which do not depend on the query."""
        space = self._encoded or encoded_space(self.network, self.space)
        bounded = self.scores.clamp(-LARGEST_SCORE, LARGEST_SCORE)
        # Scores rank like their values, and pending trials have no values.
        views = torch.stack([bounded, rank_scores(self.scores)], -1)
        tokens = None if self.past is None else self.past.tokens
        with torch.no_grad():
            trials = Trials(self.points[None], views[None])
            return space, self.network.condition(space, trials, tokens)

    # ---- predictions -----------------------------------------------------------------------

    def predictive(self, points: Tensor) -> BarDistribution:
        """The predictive distributions of scores at single points.

        Args:
            points: ``batch_shape x d``.

        Returns:
            ``batch_shape`` distributions, float64.
        """
        space, context = self._conditioned
        flat = points.float().reshape(1, -1, points.shape[-1])
        logits = self.network.predict(space, context, flat).log_masses
        logits = logits.view(*points.shape[:-1], -1).double()
        return BarDistribution(logits, self.network.borders, self.network.tails)

    def log_densities(self, points: Array, values: Array) -> Array:
        """Of values, each on its own.

        Args:
            points: ``m x d``.
            values: ``m``.

        Returns:
            ``m`` logarithms of densities in values, not in scores; NaN where the unit of the
            values is not known.
        """
        if not self.has_unit:
            return np.full(len(values), np.nan)
        with torch.no_grad():
            predictive = self.predictive(torch.as_tensor(points))
        warp = self.scale.warp
        densities = predictive.log_density(torch.from_numpy(warp.scores(values)))
        return densities.numpy() + warp.log_slopes(values)

    # ---- BoTorch's interface ---------------------------------------------------------------

    def _posterior(self, X: Tensor, observation_noise: bool | Tensor) -> BarPosterior:
        """The posterior over observed scores at ``batch_shape x q x d`` points.

        The network predicts what would be observed; there is no other posterior, so that
        ``observation_noise`` changes nothing.
        """
        return BarPosterior(self.predictive(X))


def encoded_space(network: NeuralProcess, space: Space) -> Spaces:
    """The description of one space, encoded by the network: once for a study."""
    description = describe(space)
    batch = {name: tensor[None] for name, tensor in vars(description).items()}
    with torch.no_grad():
        return network.configurations.spaces(replace(description, **batch))
