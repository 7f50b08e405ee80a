"""A convolutional neural process over learning curves.

It predicts the value of a training at any progress, by default at its end, from the reports so
far, the configuration and other trials' curves (Gordon et al. 2020, "Convolutional conditional
neural processes"; conditioning on the configuration and on other curves is our own). Stages:

1. Reports, at any progress and in any number, are smoothed onto a grid with a Gaussian kernel,
   together with their density (SetConv, section 4 there). A convolutional network processes the
   grid, with the configuration as an input of each layer. The same kernel interpolates its
   features at the query progresses.
2. The other curves, the context, are cut off at the progress of the present curve and processed
   the same way. Since their rest is known, so are the errors of the predictions for them. The
   prediction for the present curve attends to these errors, in any order; without context, the
   prediction is that of stage 1.
3. The output is a location and a scale, in the curve's own unit, and a histogram of the
   standardised values.

Convolutions are equivariant to shifts along the grid, but trainings slow down: the position on
the grid is therefore an additional input. Values enter in relative units only
(``curve_values.py``), so that predictions follow shifts and changes of unit.

Notation: B studies of m curves, of which the first k are context and the others are predicted;
r query progresses; g grid points; w width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from metahpo.surrogate.curves.curve_values import (
    Curves,
    ObservedCurves,
    interpolated,
    observed_until,
)
from metahpo.surrogate.networks.attention import two_layers
from metahpo.surrogate.networks.configuration_encoder import ConfigurationEncoder
from metahpo.surrogate.networks.space_description import Description

# Features of a curve (_curve_features), of a query (_query_features), of a grid point (_on_grid).
CURVE_FEATURES, QUERY_FEATURES, CHANNELS = 5, 4, 5
# Range of the histogram's borders, and their spacing parameter in the middle, in scales.
RANGE, SPACING = 30.0, 0.25
# Bound of the raw outputs: locations are their sinh, scales their exp, in own units.
MAX_RAW = 8.0
# Density of reports below which a grid point counts as empty.
EMPTY = 1e-3


@dataclass(frozen=True)
class CurveArchitecture:
    """Sizes of the network.

    Attributes:
        width: w, of all features.
        grid: g - 1, steps of the grid from 0 to 1.
        kernel: Kernel size of the convolutions.
        dilations: Dilations of the convolutions, one for each block.
        heads: Heads of the attention to other curves.
        bars: Bars of the histogram.
    """

    width: int = 32
    grid: int = 64
    kernel: int = 5
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 1)
    heads: int = 4
    bars: int = 40


class CurveOutput(NamedTuple):
    """The network's output, in own units relative to the last values.

    Attributes:
        location: ``B x (m - k) x r``.
        scale: ``B x (m - k) x r``.
        logits: ``B x (m - k) x r x bars``, unnormalised log masses of the histogram.
        initial: Locations and scales before attention to the context, ``B x m x r`` each.
        observed: All m curves up to the present progress.
    """

    location: Tensor
    scale: Tensor
    logits: Tensor
    initial: tuple[Tensor, Tensor]
    observed: ObservedCurves


class CurveProcess(nn.Module):
    """The network.

    The names of its layers are keys of the weight files.

    Args:
        architecture: Its sizes.
    """

    places: Tensor
    borders: Tensor
    tails: Tensor

    def __init__(self, architecture: CurveArchitecture = CurveArchitecture()) -> None:
        super().__init__()
        self.architecture = architecture
        width, grid = architecture.width, architecture.grid
        self.configurations = ConfigurationEncoder(width)
        self.told = nn.Linear(width + CURVE_FEATURES, width)
        self.log_reach = nn.Parameter(torch.tensor([-math.log(grid), -math.log(grid)]))
        self.channels = nn.Conv1d(CHANNELS, width, architecture.kernel, padding="same")
        self.blocks = nn.ModuleList(
            ConvolutionBlock(width, architecture.kernel, dilation)
            for dilation in architecture.dilations
        )
        self.asked = two_layers(3 * width + QUERY_FEATURES, 2 * width, width)
        self.first = nn.Linear(width, 2)
        self.errors = CurveAttention(width, architecture.heads)
        self.last = nn.Linear(width, 2 + architecture.bars)
        borders, masses = laplace_bars(architecture.bars)
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.bias.copy_(torch.cat([torch.zeros(2), masses.log()]))
        places = torch.linspace(0.0, 1.0, grid + 1, dtype=torch.float32)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("borders", borders)
        self.register_buffer("tails", torch.full((2,), RANGE))

    def forward(
        self, description: Description, curves: Curves, now: Tensor, queries: Tensor, context: int
    ) -> CurveOutput:
        """Predict all curves except the context.

        Args:
            description: B spaces.
            curves: ``B x m``, the context first. Reports of the others after ``now`` are ignored.
            now: ``B``, the progress up to which curves are observed.
            queries: ``B x r`` progresses.
            context: k, less than m.
        """
        observed = observed_until(curves, now, context)
        spaces = self.configurations.spaces(description)
        encoded = self.configurations(spaces, curves.points)
        inputs = torch.cat([encoded, _curve_features(observed, now, context)], -1)
        condition = self.told(inputs)
        features = self._on_grid(observed, now, condition)
        hidden = self._at_queries(features, condition, now, queries)
        location, scale = _location_and_scale(self.first(hidden))
        changes, known = _context_changes(curves, observed, queries, context)
        errors = (changes - location[:, :context]) / scale[:, :context]
        attended = self.errors(hidden, errors, changes, known)
        correction, logits = self.last(attended).split([2, self.architecture.bars], -1)
        raw = self.first(hidden[:, context:]) + correction
        return CurveOutput(*_location_and_scale(raw), logits, (location, scale), observed)

    def _on_grid(self, observed: ObservedCurves, now: Tensor, condition: Tensor) -> Tensor:
        """Compute features on the grid: ``B x m x g x w``."""
        batch, curves, _ = observed.progress.shape
        weights = self._kernel(self.places, observed.progress, 0)
        density = weights.sum(-1, keepdim=True)
        changes = weights @ observed.changes / (density + EMPTY)
        past = (self.places <= now[:, None, None]).float().expand(batch, curves, -1)
        places = self.places.expand(batch, curves, -1)
        channels = torch.cat(
            [density / (1.0 + density), changes, torch.stack([past, places], -1)], -1
        )
        features = self.channels(channels.flatten(0, 1).mT)
        for block in self.blocks:
            features = block(features, condition.flatten(0, 1))
        return features.mT.unflatten(0, (batch, curves))

    def _at_queries(
        self, features: Tensor, condition: Tensor, now: Tensor, queries: Tensor
    ) -> Tensor:
        """Compute features at the query progresses: ``B x m x r x w``."""
        progress = torch.cat([queries, now.unsqueeze(-1)], -1).to(features.dtype)
        weights = self._kernel(progress, self.places.expand(len(progress), -1), 1)
        weights = weights / weights.sum(-1, keepdim=True)
        at_progress = weights.unsqueeze(1) @ features
        present = at_progress[:, :, -1:].expand(-1, -1, queries.shape[-1], -1)
        query = _query_features(now, queries).unsqueeze(1).expand(-1, features.shape[1], -1, -1)
        condition = condition.unsqueeze(-2).expand_as(present)
        return self.asked(torch.cat([at_progress[:, :, :-1], present, condition, query], -1))

    def _kernel(self, at: Tensor, around: Tensor, which: int) -> Tensor:
        """Return the weights of b reports at a progresses, ``... x a x b``; 0 for NaN.

        Args:
            at: ``... x a``.
            around: ``... x b``.
            which: 0 for the kernel onto the grid, 1 for the one from the grid.
        """
        # NaN is replaced first: its gradient would be NaN even if masked afterwards.
        distance = at.unsqueeze(-1) - around.nan_to_num(0.0).unsqueeze(-2)
        weights = torch.exp(-0.5 * (distance / self.log_reach[which].exp()).square())
        return weights.masked_fill(around.isnan().unsqueeze(-2), 0.0)


class ConvolutionBlock(nn.Module):
    """A residual block: a convolution modulated by the configuration, and a linear map.

    Args:
        width: w.
        kernel: Kernel size of the convolution.
        dilation: Dilation of the convolution.
    """

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.wide = nn.Conv1d(width, width, kernel, padding="same", dilation=dilation)
        self.told = nn.Linear(width, 2 * width)
        self.narrow = nn.Conv1d(width, width, 1)
        with torch.no_grad():
            self.narrow.weight.mul_(0.5)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Update ``... x w x g`` features, given ``... x w`` conditions."""
        scale, shift = self.told(condition).unsqueeze(-1).chunk(2, -2)
        hidden = gelu(self.wide(features) * (1.0 + scale) + shift, approximate="tanh")
        return features + self.narrow(hidden)


class CurveAttention(nn.Module):
    """Attention of the predicted curves to the errors on the context curves.

    A learned null token can be attended to instead of any context.

    Args:
        width: w.
        heads: Number of heads; must divide w.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.out_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value = two_layers(width + 3, 2 * width, width)
        self.nobody = nn.Parameter(torch.zeros(2, width))
        self.out = nn.Linear(width, width)
        self.hidden = two_layers(width, 2 * width, width)

    def forward(self, hidden: Tensor, errors: Tensor, changes: Tensor, known: Tensor) -> Tensor:
        """Update the features of the predicted curves.

        Args:
            hidden: ``B x m x r x w``, those of the context first.
            errors: ``B x k x r``, of the initial predictions, in units of their scales.
            changes: ``B x k x r``, differences from the last values, in own units.
            known: ``B x k x r``, False for queries at which a context curve has no value.

        Returns:
            ``B x (m - k) x r x w``.
        """
        context = errors.shape[1]
        # Attention is between curves, for each study and query: B x r x curves x w.
        tokens = hidden.transpose(1, 2)
        normed = self.norm(tokens)
        others, targets = normed[:, :, :context], normed[:, :, context:]
        facts = torch.stack([torch.asinh(errors), torch.tanh(errors), torch.asinh(changes)], -1)
        value = self.value(torch.cat([others, facts.transpose(1, 2)], -1))
        null_token = self.nobody.expand(*targets.shape[:2], -1, -1)
        key = torch.cat([null_token[:, :, :1], self.key(others)], 2)
        value = torch.cat([null_token[:, :, 1:], value], 2)
        mask = nn.functional.pad(known.transpose(1, 2), (1, 0), value=True)[:, :, None, None]
        attended = scaled_dot_product_attention(
            self._split(self.query(targets)), self._split(key), self._split(value), mask
        )
        updated = tokens[:, :, context:] + self.out(attended.transpose(2, 3).flatten(-2))
        return (updated + self.hidden(self.out_norm(updated))).transpose(1, 2)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(2, 3)


def laplace_bars(bars: int) -> tuple[Tensor, Tensor]:
    """Return borders, ``bars - 1``, and the masses that approximate a standard Laplace density."""
    steps = torch.linspace(-1.0, 1.0, bars - 1, dtype=torch.float64)
    borders = SPACING * torch.sinh(math.asinh(RANGE / SPACING) * steps)
    below = torch.where(borders < 0, 0.5 * borders.exp(), 1.0 - 0.5 * (-borders).exp())
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    masses = torch.cat([ends[:1], below, ends[1:]]).diff()
    return borders.float(), masses.clamp_min(1e-8).float()


def _curve_features(observed: ObservedCurves, now: Tensor, context: int) -> Tensor:
    """Return scale, level and length of the curves: ``B x m x CURVE_FEATURES``."""
    progress = now.float().unsqueeze(-1).expand_as(observed.level)
    others = torch.full_like(progress, math.log1p(context))
    reports = torch.log1p(observed.reports.float())
    level = torch.asinh(observed.level)
    return torch.stack([observed.log_ratio, level, reports, progress, others], -1)


def _query_features(now: Tensor, queries: Tensor) -> Tensor:
    """Return the queries relative to the present: ``B x r x QUERY_FEATURES``."""
    now, queries = now.float().unsqueeze(-1).expand(queries.shape), queries.float()
    ratio = torch.log((queries + 0.01) / (now + 0.01))
    return torch.stack([queries, now, queries - now, ratio], -1)


def _context_changes(
    curves: Curves, observed: ObservedCurves, queries: Tensor, context: int
) -> tuple[Tensor, Tensor]:
    """Return the changes of the context curves at the queries, and where known: ``B x k x r``."""
    values = interpolated(
        curves.progress[:, :context],
        curves.values[:, :context],
        queries.unsqueeze(1).expand(-1, context, -1),
    )
    of_context = ObservedCurves(*(part[:, :context] for part in observed))
    changes = of_context.relative(values)
    known = changes.isfinite() & (of_context.reports > 0).unsqueeze(-1)
    return changes.masked_fill(~known, 0.0), known


def _location_and_scale(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Return locations and scales, in own units, from ``... x 2`` unconstrained numbers."""
    location, scale = raw.clamp(-MAX_RAW, MAX_RAW).unbind(-1)
    return torch.sinh(location), torch.exp(scale)
