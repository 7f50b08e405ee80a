"""The neural process as a BoTorch model of one study.

It speaks the language of the other surrogates: features in (``Space.features``), a distribution
over scores out, and the warp that leads from values to these scores. Past tasks are encoded once
(``EncodedPast``) and serve every suggestion of a study.

Notation (see also ``metahpo.tasks.space``): F fantasies; B = F or 1, studies in the network's
batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from botorch.models.model import Model
from torch import Tensor

from metahpo.surrogate.gp.past_models import thin
from metahpo.surrogate.networks.bar_posterior import BarPosterior
from metahpo.surrogate.networks.bars import BarDistribution
from metahpo.surrogate.networks.configuration_encoder import Spaces
from metahpo.surrogate.networks.space_description import Description, describe
from metahpo.surrogate.neural.neural_process import (
    Context,
    NeuralProcess,
    PastTrials,
    Tokens,
    Trials,
)
from metahpo.surrogate.neural.standardise import (
    LARGEST_SCORE,
    Scale,
    own_scale,
    rank_scores,
    study_scale,
    tells_unit,
    two_views,
)
from metahpo.surrogate.scores import Warp
from metahpo.tasks.alignment import AlignedTask
from metahpo.tasks.space import ONE_HOT_SCALE, Array, Space


@dataclass(frozen=True, eq=False)
class EncodedPast:
    """Past tasks as tokens, and what they say of units.

    Attributes:
        tokens: t m of them, for one study.
        unit: Their usual unit, float64.
        count: t.
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
    *,
    seed: int = 0,
) -> EncodedPast | None:
    """Past tasks, read once a study.

    Args:
        network: The network.
        tasks: t past tasks aligned to ``space``, each thinned as for the other models.
        space: The present space.
        relevance: t weights that sum to 1, where meta-features tell something.
        seed: Of the trials that are kept of long tasks.

    Returns:
        Their tokens; None without any task, and for a network that reads none.
    """
    if not tasks or not network.architecture.past:
        return None
    rng = np.random.default_rng(seed)
    kept = [thin(task, rng) for task in tasks]
    most = max(len(task.values) for task in kept)
    points = np.full((len(kept), most, len(space)), np.nan, np.float32)
    values = np.full((len(kept), most), np.nan)
    for row, task in enumerate(kept):
        points[row, : len(task.values)] = task.points
        values[row, : len(task.values)] = task.values
    own = own_scale(torch.from_numpy(values))
    logs = None
    if relevance is not None:
        logs = torch.from_numpy(np.log(np.maximum(relevance * len(tasks), 1e-6))).float()[None]
    past = PastTrials(
        Trials(
            torch.from_numpy(points)[None],
            two_views(torch.from_numpy(values), own)[None],
        ),
        known=torch.from_numpy(np.stack([task.shared for task in kept]))[None],
        present=torch.from_numpy(~np.isnan(values))[None],
        relevance=logs,
    )
    with torch.no_grad():
        tokens = network.encode_past(_spaces(network, space), past)
    return EncodedPast(tokens, own.unit.log().median().exp(), len(tasks))


class NeuralModel(Model):
    """What the network predicts for one study.

    Args:
        network: The network, ready to predict.
        space: The study's space.
        points: n x d observed trials, n at least 0.
        values: n.
        past: From ``encode_past``.
    """

    def __init__(
        self,
        network: NeuralProcess,
        space: Space,
        points: Array,
        values: Array,
        past: EncodedPast | None = None,
    ) -> None:
        super().__init__()
        # Not a submodule: BoTorch would turn a network that others use as well to float64.
        self._networks = (network,)
        self.space, self.past = space, past
        observed = torch.as_tensor(np.asarray(values, float))
        self.scale: Scale = study_scale(observed, past.unit if past else None)
        # Without, the unit is made up: scores can be predicted, values cannot.
        self.knows_unit = past is not None or bool(tells_unit(observed))
        self.points = torch.as_tensor(points, dtype=torch.float32).expand(1, *points.shape)
        self.scores = self.scale.scores(observed)[None]
        self._batch_shape = torch.Size([])

    def _with(self, points: Tensor, scores: Tensor, batch_shape: torch.Size) -> NeuralModel:
        """This model with more trials, ``F x m``, whose scores nobody has observed."""
        other = NeuralModel(self.network, self.space, np.empty((0, len(self.space))), np.empty(0))
        count = max(len(points), len(self.points))
        other.past, other.scale, other.knows_unit = self.past, self.scale, self.knows_unit
        other.points = torch.cat([self.points.expand(count, -1, -1), points], 1)
        other.scores = torch.cat([self.scores.expand(count, -1), scores], 1)
        other._batch_shape = batch_shape
        return other

    @property
    def network(self) -> NeuralProcess:
        """The network, in float32."""
        return self._networks[0]

    @property
    def num_outputs(self) -> int:
        """One."""
        return 1

    @property
    def batch_shape(self) -> torch.Size:
        """Empty, or the number of fantasies."""
        return self._batch_shape

    @property
    def warp(self) -> Warp:
        """From values to the scores that are predicted."""
        return self.scale.warp

    @cached_property
    def _told(self) -> tuple[Spaces, Context]:
        """The spaces and the context, which do not depend on what is asked."""
        studies = len(self.points)
        spaces = _spaces(self.network, self.space, studies)
        # Scores rank like their values, and fantasies have no values.
        bounded = self.scores.clamp(-LARGEST_SCORE, LARGEST_SCORE)
        views = torch.stack([bounded, rank_scores(self.scores)], -1)
        trials = Trials(self.points, views)
        tokens = None
        if self.past is not None:
            content, places, placed = self.past.tokens
            expanded = (studies, -1, -1)
            tokens = Tokens(content.expand(expanded), places.expand(expanded), placed)
        with torch.no_grad():
            return spaces, self.network.condition(spaces, trials, tokens)

    # ---- predictions -----------------------------------------------------------------------

    def answer(self, X: Tensor) -> BarDistribution:
        """The predictive distributions at single points.

        Args:
            X: ``batch_shape x q x p`` features.

        Returns:
            ``batch_shape x q`` distributions, float64.
        """
        points = points_of_features(self.space, X).float()
        if not self.batch_shape:
            flat = points.reshape(1, -1, points.shape[-1])
            logits = self._asked(flat).view(*points.shape[:-1], -1)
        else:
            # ... x F x q x d: fantasies first, as the network's batch.
            shape = torch.broadcast_shapes(points.shape[:-2], self.batch_shape)
            points = points.expand(*shape, *points.shape[-2:]).movedim(-3, 0)
            flat = points.reshape(len(points), -1, points.shape[-1])
            logits = self._asked(flat).view(*points.shape[:-1], -1).movedim(0, -3)
        network = self.network
        return BarDistribution(logits.double(), network.borders, network.tails)

    def _asked(self, points: Tensor) -> Tensor:
        """``B x q x K`` logarithms of the bars' masses at ``B x q x d`` points."""
        spaces, context = self._told
        return self.network.predict(spaces, context, points).log_masses

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: Any = None,
    ) -> Any:
        """The posterior over observed scores.

        Args:
            X: ``batch_shape x q x p``, features.
            output_indices: There is one output: None or [0].
            observation_noise: The network predicts what would be observed; there is no other
                posterior, so that this changes nothing.
            posterior_transform: Applied to the result, if given.

        Returns:
            A ``BarPosterior`` of ``batch_shape x q x 1``.
        """
        posterior = BarPosterior(self.answer(X))
        return posterior_transform(posterior) if posterior_transform else posterior

    def mean_and_variance(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Of the scores at single points.

        Args:
            X: ``... x p`` features.

        Returns:
            Two tensors of ``...``.
        """
        answer = self.answer(X)
        return answer.mean, answer.variance

    def log_densities(self, X: Array, values: Array) -> Array:
        """Of values, each on its own.

        Args:
            X: m x p features.
            values: m.

        Returns:
            m logarithms of densities in values, not in scores; NaN where nothing has said in
            which unit the values are.
        """
        if not self.knows_unit:
            return np.full(len(values), np.nan)
        with torch.no_grad():
            answer = self.answer(torch.as_tensor(X))
        scores = torch.from_numpy(self.warp.scores(values))
        return answer.log_density(scores).numpy() + self.warp.log_slopes(values)

    def expected_improvement(self, X: Tensor, best: float | None = None) -> Tensor:
        """In closed form from the bars.

        Args:
            X: ``... x p`` features.
            best: The score to be improved on; the incumbent's if not given.

        Returns:
            ``...``, in scores.
        """
        return self.answer(X).expected_improvement(self.incumbent if best is None else best)

    @cached_property
    def incumbent(self) -> float:
        """The best score observed; 0, the middle, where there is none."""
        return float(self.scores.max()) if self.scores.shape[-1] else 0.0

    @cached_property
    def observed_features(self) -> Tensor:
        """``n x p``, of the trials that it was told of, running ones among them."""
        return torch.from_numpy(self.space.features(self.points[0].double().numpy()))

    # ---- running trials --------------------------------------------------------------------

    def believing(self, X: Array) -> NeuralModel:
        """This model after seeing its own mean at X (kriging believer, Ginsbourger et al. 2010).

        Args:
            X: m x p features.
        """
        queries = torch.as_tensor(X)
        with torch.no_grad():
            means = self.answer(queries).mean.float()
        points = points_of_features(self.space, queries).float()
        return self._with(points[None], means[None], torch.Size([]))

    def fantasised(self, X: Array, count: int, seed: int = 0) -> NeuralModel:
        """Copies of this model, each after one joint draw of what X may turn out to be.

        One point after the other is drawn given the ones before it, so that near points turn
        out alike.

        Args:
            X: m x p features.
            count: F, how many draws.
            seed: Of the draws.

        Returns:
            A model of batch shape F.
        """
        generator = torch.Generator().manual_seed(seed)
        model = self._with(
            self.points[:, :0].expand(count, -1, -1),
            self.scores[:, :0].expand(count, -1),
            torch.Size([count]),
        )
        for x in torch.as_tensor(X):
            with torch.no_grad():
                answer = model.answer(x.view(1, 1, -1))
            chance = torch.rand(count, 1, generator=generator).double().clamp(1e-6, 1 - 1e-6)
            drawn = answer.quantile(chance.view(answer.batch_shape)).view(count, 1)
            point = points_of_features(self.space, x.view(1, 1, -1)).float()
            model = model._with(point.expand(count, -1, -1), drawn.float(), torch.Size([count]))
        return model


# ---- spaces --------------------------------------------------------------------------------


def points_of_features(space: Space, X: Tensor) -> Tensor:
    """Points whose features these are; differentiable in the numerical ones.

    Args:
        space: The space.
        X: ``... x p`` features.

    Returns:
        ``... x d`` points, NaN where inactive.
    """
    owners = np.asarray(space.feature_owner)
    conditional = [name for name in space if name in space.conditions]
    columns = []
    for column, name in enumerate(space.names):
        place = np.flatnonzero(owners == column)
        block = X[..., place[0] : place[-1] + 1]
        if space.is_categorical[column]:
            values = (block.argmax(-1).to(X.dtype) + 0.5) / block.shape[-1]
            active = block.sum(-1) > 0.5 * ONE_HOT_SCALE
        else:
            values = block.squeeze(-1)
            active = torch.ones_like(values, dtype=torch.bool)
        if name in conditional:
            activity = len(space) + conditional.index(name)
            active = active & (X[..., int(np.flatnonzero(owners == activity)[0])] > 0.5)
        columns.append(torch.where(active, values, torch.nan))
    return torch.stack(columns, -1)


def _spaces(network: NeuralProcess, space: Space, count: int = 1) -> Spaces:
    """So many copies of one space, for the network."""
    description = describe(space)
    copies = {name: tensor.expand(count, *tensor.shape) for name, tensor in _parts(description)}
    with torch.no_grad():
        return network.configurations.spaces(replace(description, **copies))


def _parts(description: Description) -> list[tuple[str, Tensor]]:
    return list(vars(description).items())
