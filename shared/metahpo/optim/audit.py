"""What an optimizer did: step sizes by layer over a training, and which rule they resemble."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Adam's defaults, and momentum's usual decay.
FAST, SECOND, EPSILON = 0.9, 0.999, 1e-8
# What a step is compared with.
RULES = ("sgd", "momentum", "adam", "sign")


class Row(NamedTuple):
    """One parameter at one step.

    Attributes:
        step: From 1.
        parameter: Its name.
        size: Root mean square of the update.
        relative: That over the root mean square of the parameter before it; NaN if that is 0.
        sgd: Cosine of the update with the negative gradient, NaN where either is 0.
        momentum: With that of the gradients' running mean (decay 0.9).
        adam: With the direction of Adam at its default decay rates.
        sign: With the negative signs of the gradient.
    """

    step: int
    parameter: str
    size: float
    relative: float
    sgd: float
    momentum: float
    adam: float
    sign: float


class Audit:
    """Watches the steps of any PyTorch optimizer while used as a context.

    ``rows`` are what it saw, ``print(audit)`` sums them up, ``figure()`` draws them. It keeps two
    numbers for each parameter, and a copy of the parameters during the steps that it measures.
    Weight decay is part of the update. Where the gradients change after the step (accumulation
    without zeroing), the cosines are with what they are right after it.

    Args:
        named_parameters: As ``model.named_parameters()`` gives them; those alone are watched.
        optimizer: Whose steps.
        every: Only each so-manieth step is measured, the first included.

    Raises:
        ValueError: ``every`` is below 1, or no parameter is one of the optimizer's.
    """

    def __init__(
        self, named_parameters: Iterable[tuple[str, nn.Parameter]], optimizer: Optimizer,
        every: int = 1,
    ) -> None:  # fmt: skip
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self._watched = {name: p for name, p in named_parameters if id(p) in known}
        if not self._watched:
            raise ValueError("none of these parameters is the optimizer's")
        self._optimizer, self._every = optimizer, every
        self._moments: dict[str, tuple[Tensor, Tensor, int]] = {}
        self._before: dict[str, Tensor] = {}
        self._steps = 0
        self._hooks = ExitStack()
        self.rows: list[Row] = []

    def __enter__(self) -> Self:
        """Begins to watch, or goes on."""
        hooks = (
            self._optimizer.register_step_pre_hook(self._begin),
            self._optimizer.register_step_post_hook(self._end),
        )
        for hook in hooks:
            self._hooks.callback(hook.remove)
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the optimizer as it was."""
        self._hooks.close()
        self._before = {}

    def _begin(self, *_: Any) -> None:
        if self._steps % self._every == 0:
            self._before = {name: _flat(p).clone() for name, p in self._watched.items()}

    def _end(self, *_: Any) -> None:
        self._steps += 1
        for name, parameter in self._watched.items():
            # With a closure the gradients are there only now.
            if parameter.grad is None:
                continue
            gradient = _flat(parameter.grad)
            mean, adam = self._directions(name, gradient)
            if name in self._before:
                ways = (gradient, mean, adam, gradient.sign())
                update = _flat(parameter) - self._before[name]
                self.rows.append(self._row(name, update, ways))
        self._before = {}

    def _directions(self, name: str, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Momentum and Adam's direction, this gradient in them."""
        zeros = (torch.zeros_like(gradient), torch.zeros_like(gradient), 0)
        fast, second, count = self._moments.get(name, zeros)
        fast.lerp_(gradient, 1 - FAST)
        second.lerp_(gradient.square(), 1 - SECOND)
        count += 1
        self._moments[name] = fast, second, count
        root = (second / (1 - SECOND**count)).sqrt() + EPSILON
        return fast, fast / root

    def _row(self, name: str, update: Tensor, ways: Iterable[Tensor]) -> Row:
        size, before = _root_mean_square(update), _root_mean_square(self._before[name])
        relative = size / before if before else math.nan
        cosines = [-_cosine(update, way) for way in ways]
        return Row(self._steps, name, size, relative, *cosines)

    def __str__(self) -> str:
        """A line for each parameter: relative step sizes in each third, mean cosines."""
        if not self.rows:
            return "no step was measured"
        lines = [f"{'':28} relative step size (median)      mean cosine of the steps with"]
        lines += [
            f"{'parameter':28} {'begin':>9} {'middle':>9} {'end':>9}    "
            + "".join(f"{rule:>9}" for rule in RULES)
        ]
        for name in self._watched:
            rows = [row for row in self.rows if row.parameter == name]
            if rows:
                sizes = [_median([row.relative for row in third]) for third in _thirds(rows)]
                cosines = [_mean([getattr(row, rule) for row in rows]) for rule in RULES]
                lines.append(
                    f"{name[-28:]:28} " + " ".join(f"{size:9.2e}" for size in sizes) + "    "
                    + "".join(f"{cosine:9.2f}" for cosine in cosines)
                )  # fmt: skip
        return "\n".join(lines)

    def figure(self) -> go.Figure:
        """Relative step sizes and cosines over the training, a line for each parameter.

        Raises:
            ImportError: Without plotly.
            ValueError: No step was measured.
        """
        if not self.rows:
            raise ValueError("no step was measured; take steps within `with audit:`")
        return _figure(self.rows)


def _figure(rows: list[Row]) -> go.Figure:
    try:
        from plotly.colors import qualitative
        from plotly.subplots import make_subplots
    except ImportError:
        raise ImportError("figures need plotly: pip install 'metahpo[plots]'") from None
    shown = ("relative", *RULES)
    titles = ["relative step size", *(f"cosine with {rule}" for rule in RULES)]
    figure = make_subplots(len(shown), 1, shared_xaxes=True, subplot_titles=titles)
    for place, name in enumerate(dict.fromkeys(row.parameter for row in rows)):
        own = [row for row in rows if row.parameter == name]
        color = qualitative.Alphabet[place % len(qualitative.Alphabet)]
        for panel, column in enumerate(shown):
            figure.add_scatter(
                x=[row.step for row in own],
                y=[getattr(row, column) for row in own],
                name=name,
                legendgroup=name,
                showlegend=panel == 0,
                line={"color": color},
                row=panel + 1,
                col=1,
            )
    figure.update_yaxes(type="log", row=1, col=1)
    figure.update_xaxes(title="step", row=len(shown), col=1)
    return figure.update_layout(title="What the optimizer did", height=220 * len(shown))


def _flat(tensor: Tensor) -> Tensor:
    """In single precision at least; complex numbers as pairs."""
    tensor = tensor.detach()
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return real.to(torch.promote_types(real.dtype, torch.float32)).flatten()


def _root_mean_square(tensor: Tensor) -> float:
    return tensor.norm().item() / max(1, tensor.numel()) ** 0.5


def _cosine(one: Tensor, two: Tensor) -> float:
    norms = one.norm().item() * two.norm().item()
    return (one @ two).item() / norms if norms else math.nan


def _thirds(rows: list[Row]) -> list[list[Row]]:
    third = -(-len(rows) // 3)
    return [rows[:third], rows[third : -third or None] or rows, rows[-third:]]


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _median(values: list[float]) -> float:
    known = sorted(value for value in values if not math.isnan(value))
    return known[len(known) // 2] if known else math.nan
