"""A convolutional neural process over learning curves.

It predicts the value of a training at any progress, by default at its end, from the reports so
far, the configuration and other trials' curves (Gordon et al. 2020, "Convolutional conditional
neural processes"; conditioning on the configuration and on other curves is our own). Stages:

1. Reports, at any progress and any number of them, are carried to a grid by a Gaussian kernel,
   beside their density, which tells where there are any (SetConv, section 4 there). A
   convolutional network works on the grid, told the configuration at each layer. The same kernel
   carries its features to the progress asked for.
2. The same is done with the other curves, cut off at the progress at which the present one is.
   As one knows how they went on, one knows by how much each prediction was wrong. The present
   prediction attends to these errors. Their order cannot matter, and with none of them the
   network answers by stage 1.
3. The answer is a location and a scale, in the curve's own unit, and a histogram of what is left.

Progress enters twice: convolutions do not care where on the grid they are, but the grid's places
are told to the network, because trainings slow down. Values enter in relative units alone
(``curve_values.py``): a shift or another unit moves the predictions along.

Notation: B studies of m curves, k of them context and the others asked about; r progresses asked;
g places of the grid; w width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from metahpo.surrogate.curves.curve_values import Curves, Seen, at_progress, seen_until
from metahpo.surrogate.networks.attention import two_layers
from metahpo.surrogate.networks.configuration_encoder import ConfigurationEncoder
from metahpo.surrogate.networks.space_description import Description

# Facts of a curve: see _facts; of a progress asked for: see _asked.
FACTS, ASKED = 5, 4
CHANNELS = 5
# Borders of the histogram reach so many scales to both sides, and are so dense in the middle.
REACH, DENSE = 30.0, 0.25
# Locations lie within sinh of so much own units, scales within exp of so much.
FARTHEST, WIDEST = 8.0, 8.0
EMPTY = 1e-3


@dataclass(frozen=True)
class CurveArchitecture:
    """Sizes of the network.

    Attributes:
        width: w, of all features.
        grid: g - 1, steps of the grid from 0 to 1.
        kernel: Of the convolutions.
        dilations: Of the convolutions, a block each.
        heads: Of the attention to other curves.
        bars: Of the histogram.
    """

    width: int = 32
    grid: int = 64
    kernel: int = 5
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 1)
    heads: int = 4
    bars: int = 40


class Answer(NamedTuple):
    """What the network says, ``B x (m - k) x r``, in own units relative to the last values.

    Attributes:
        location: Of each prediction.
        scale: Of each prediction.
        logits: ``... x bars``, of the histogram's masses.
        first: Location and scale before the other curves are heard, ``B x m x r``.
        seen: Of all m curves.
    """

    location: Tensor
    scale: Tensor
    logits: Tensor
    first: tuple[Tensor, Tensor]
    seen: Seen


class CurveProcess(nn.Module):
    """The whole network.

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
        self.told = nn.Linear(width + FACTS, width)
        self.log_reach = nn.Parameter(torch.tensor([-math.log(grid), -math.log(grid)]))
        self.channels = nn.Conv1d(CHANNELS, width, architecture.kernel, padding="same")
        self.blocks = nn.ModuleList(
            ConvolutionBlock(width, architecture.kernel, dilation)
            for dilation in architecture.dilations
        )
        self.asked = two_layers(3 * width + ASKED, 2 * width, width)
        self.first = nn.Linear(width, 2)
        self.errors = CurveAttention(width, architecture.heads)
        self.last = nn.Linear(width, 2 + architecture.bars)
        borders, masses = laplace_bars(architecture.bars)
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.bias.copy_(torch.cat([torch.zeros(2), masses.log()]))
        self.register_buffer("places", torch.linspace(0.0, 1.0, grid + 1), persistent=False)
        self.register_buffer("borders", borders)
        self.register_buffer("tails", torch.full((2,), REACH))

    def forward(
        self, description: Description, curves: Curves, now: Tensor, asked: Tensor, context: int
    ) -> Answer:
        """Predictions for all curves but the context.

        Args:
            description: Of B spaces.
            curves: ``B x m``, the context first. What the others report after ``now`` is not
                looked at.
            now: B, the progress up to which curves are seen.
            asked: ``B x r`` progresses.
            context: k, less than m.
        """
        seen = seen_until(curves, now, context)
        spaces = self.configurations.spaces(description)
        encoded = self.configurations(spaces, curves.points)
        told = self.told(torch.cat([encoded, _facts(seen, now, context)], -1))
        features = self._on_grid(seen, now, told)
        hidden = self._at(features, told, now, asked)
        location, scale = _located(self.first(hidden))
        values = at_progress(
            curves.progress[:, :context],
            curves.values[:, :context],
            asked.unsqueeze(1).expand(-1, context, -1),
        )
        of_context = Seen(*(part[:, :context] for part in seen))
        gone = of_context.relative(values)
        known = gone.isfinite() & (of_context.reports > 0).unsqueeze(-1)
        gone = gone.masked_fill(~known, 0.0)
        errors = (gone - location[:, :context]) / scale[:, :context]
        heard = self.errors(hidden, errors, gone, known)
        change, logits = self.last(heard).split([2, self.architecture.bars], -1)
        raw = self.first(hidden[:, context:]) + change
        return Answer(*_located(raw), logits, (location, scale), seen)

    def _on_grid(self, seen: Seen, now: Tensor, told: Tensor) -> Tensor:
        """``B x m x g x w``."""
        batch, curves, _ = seen.progress.shape
        weights = self._kernel(self.places, seen.progress, 0)
        density = weights.sum(-1, keepdim=True)
        moves = weights @ seen.moves / (density + EMPTY)
        past = (self.places <= now[:, None, None]).float().expand(batch, curves, -1)
        places = self.places.expand(batch, curves, -1)
        channels = torch.cat(
            [density / (1.0 + density), moves, torch.stack([past, places], -1)], -1
        )
        features = self.channels(channels.flatten(0, 1).mT)
        for block in self.blocks:
            features = block(features, told.flatten(0, 1))
        return features.mT.unflatten(0, (batch, curves))

    def _at(self, features: Tensor, told: Tensor, now: Tensor, asked: Tensor) -> Tensor:
        """``B x m x r x w``: what is known of each progress asked for."""
        both = torch.cat([asked, now.unsqueeze(-1)], -1).to(features.dtype)
        weights = self._kernel(both, self.places.expand(len(both), -1), 1)
        weights = weights / weights.sum(-1, keepdim=True)
        carried = weights.unsqueeze(1) @ features
        here = carried[:, :, -1:].expand(-1, -1, asked.shape[-1], -1)
        facts = _asked(now, asked).unsqueeze(1).expand(-1, features.shape[1], -1, -1)
        told = told.unsqueeze(-2).expand_as(here)
        return self.asked(torch.cat([carried[:, :, :-1], here, told, facts], -1))

    def _kernel(self, at: Tensor, around: Tensor, which: int) -> Tensor:
        """``... x a x b`` weights of b progresses at a others, 0 where one is NaN."""
        # Filled first: the gradient at a NaN would be NaN, masked or not.
        distance = at.unsqueeze(-1) - around.nan_to_num(0.0).unsqueeze(-2)
        weights = torch.exp(-0.5 * (distance / self.log_reach[which].exp()).square())
        return weights.masked_fill(around.isnan().unsqueeze(-2), 0.0)


class ConvolutionBlock(nn.Module):
    """A convolution that is told the configuration, and a linear map, added to the features.

    Args:
        width: w.
        kernel: Of the convolution.
        dilation: Of the convolution.
    """

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.wide = nn.Conv1d(width, width, kernel, padding="same", dilation=dilation)
        self.told = nn.Linear(width, 2 * width)
        self.narrow = nn.Conv1d(width, width, 1)
        with torch.no_grad():
            self.narrow.weight.mul_(0.5)

    def forward(self, features: Tensor, told: Tensor) -> Tensor:
        """``... x w x g`` features, told ``... x w``."""
        scale, shift = self.told(told).unsqueeze(-1).chunk(2, -2)
        hidden = gelu(self.wide(features) * (1.0 + scale) + shift, approximate="tanh")
        return features + self.narrow(hidden)


class CurveAttention(nn.Module):
    """What the errors on other curves say about the present one.

    Args:
        width: w.
        heads: They divide it.
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

    def forward(self, hidden: Tensor, errors: Tensor, gone: Tensor, known: Tensor) -> Tensor:
        """``B x (m - k) x r x w`` features of the curves asked about.

        Args:
            hidden: ``B x m x r x w``, the context's first.
            errors: ``B x k x r``, of the first predictions, in their scales.
            gone: ``B x k x r``, how far the curves went, in own units.
            known: ``B x k x r``.
        """
        context = errors.shape[1]
        # Attention is among the curves, for each study and progress: B x r x curves x w.
        tokens = hidden.transpose(1, 2)
        normed = self.norm(tokens)
        others, asked = normed[:, :, :context], normed[:, :, context:]
        said = torch.stack([torch.asinh(errors), torch.tanh(errors), torch.asinh(gone)], -1)
        value = self.value(torch.cat([others, said.transpose(1, 2)], -1))
        nobody = self.nobody.expand(*asked.shape[:2], -1, -1)
        key = torch.cat([nobody[:, :, :1], self.key(others)], 2)
        value = torch.cat([nobody[:, :, 1:], value], 2)
        mask = nn.functional.pad(known.transpose(1, 2), (1, 0), value=True)[:, :, None, None]
        found = scaled_dot_product_attention(
            self._split(self.query(asked)), self._split(key), self._split(value), mask
        )
        heard = tokens[:, :, context:] + self.out(found.transpose(2, 3).flatten(-2))
        return (heard + self.hidden(self.out_norm(heard))).transpose(1, 2)

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(2, 3)


def laplace_bars(bars: int) -> tuple[Tensor, Tensor]:
    """Borders, dense in the middle, and the masses that make a standard Laplace distribution."""
    steps = torch.linspace(-1.0, 1.0, bars - 1, dtype=torch.float64)
    borders = DENSE * torch.sinh(math.asinh(REACH / DENSE) * steps)
    below = torch.where(borders < 0, 0.5 * borders.exp(), 1.0 - 0.5 * (-borders).exp())
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    masses = torch.cat([ends[:1], below, ends[1:]]).diff()
    return borders.float(), masses.clamp_min(1e-8).float()


def _facts(seen: Seen, now: Tensor, context: int) -> Tensor:
    """``B x m x FACTS``."""
    here = now.float().unsqueeze(-1).expand_as(seen.level)
    known = torch.full_like(here, math.log1p(context))
    counted = torch.log1p(seen.reports.float())
    return torch.stack([seen.ratio, torch.asinh(seen.level), counted, here, known], -1)


def _asked(now: Tensor, asked: Tensor) -> Tensor:
    """``B x r x ASKED``."""
    now, asked = now.float().unsqueeze(-1).expand(asked.shape), asked.float()
    ahead = torch.log((asked + 0.01) / (now + 0.01))
    return torch.stack([asked, now, asked - now, ahead], -1)


def _located(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Locations and scales in own units, of ``... x 2`` free numbers."""
    location, scale = raw.clamp(-FARTHEST, FARTHEST).unbind(-1)
    return torch.sinh(location), torch.exp(scale)
