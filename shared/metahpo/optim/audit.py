"""Record what an optimizer does: step sizes by parameter, and which rule the steps resemble."""

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

# Adam's defaults, whose first decay rate is also the usual one of momentum.
FAST, SECOND, EPSILON = 0.9, 0.999, 1e-8
# Rules with which a step is compared.
RULES = ("sgd", "momentum", "adam", "sign")


class Row(NamedTuple):
    """One parameter at one step.

    Attributes:
        step: Number of the step, from 1.
        parameter: Name of the parameter.
        size: Root mean square of the update.
        relative: ``size`` over the root mean square of the parameter before the step; NaN if the
            parameter was 0.
        sgd: Cosine of the update with the negative gradient; NaN if either is 0.
        momentum: Cosine with the negative running mean of the gradient (decay 0.9).
        adam: Cosine with an Adam step at its default decay rates.
        sign: Cosine with the negative sign of the gradient.
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
    """Context manager that measures the steps of any PyTorch optimizer.

    ``rows`` holds the measurements, ``print(audit)`` summarises them, ``figure()`` draws them.
    An audit does not change the training. It keeps two tensors per parameter, and a copy of the
    parameters during the steps that it measures. Weight decay counts as part of the update.
    Cosines use the gradients right after the step.

    Args:
        named_parameters: The parameters to measure, from ``model.named_parameters()``.
        optimizer: The optimizer whose steps to measure.
        every: Measure every n-th step, starting with the first.

    Raises:
        ValueError: ``every`` is below 1, or the optimizer has none of the parameters.
    """

    def __init__(
        self, named_parameters: Iterable[tuple[str, nn.Parameter]], optimizer: Optimizer,
        every: int = 1,
    ) -> None:  # fmt: skip
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        optimized = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self._parameters = {name: p for name, p in named_parameters if id(p) in optimized}
        if not self._parameters:
            raise ValueError("named_parameters contains no parameter of this optimizer")
        self._optimizer, self._every = optimizer, every
        self._moments: dict[str, tuple[Tensor, Tensor, int]] = {}
        self._before: dict[str, Tensor] = {}
        self._steps = 0
        self._hooks = ExitStack()
        self.rows: list[Row] = []

    def __enter__(self) -> Self:
        """Start or resume measuring."""
        hooks = (
            self._optimizer.register_step_pre_hook(self._begin),
            self._optimizer.register_step_post_hook(self._end),
        )
        for hook in hooks:
            self._hooks.callback(hook.remove)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop measuring; remove the hooks from the optimizer."""
        self._hooks.close()
        self._before = {}

    def _begin(self, *_: Any) -> None:
        if self._steps % self._every == 0:
            self._before = {name: _flat(p).clone() for name, p in self._parameters.items()}

    def _end(self, *_: Any) -> None:
        self._steps += 1
        for name, parameter in self._parameters.items():
            # After the step, because a closure computes the gradients during it.
            if parameter.grad is None:
                continue
            gradient = _flat(parameter.grad)
            momentum, adam = self._directions(name, gradient)
            if name in self._before:
                directions = (gradient, momentum, adam, gradient.sign())
                update = _flat(parameter) - self._before[name]
                self.rows.append(self._row(name, update, directions))
        self._before = {}

    def _directions(self, name: str, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Update the moments with a gradient; return the directions of momentum and Adam."""
        zeros = (torch.zeros_like(gradient), torch.zeros_like(gradient), 0)
        fast, second, count = self._moments.get(name, zeros)
        fast.lerp_(gradient, 1 - FAST)
        second.lerp_(gradient.square(), 1 - SECOND)
        count += 1
        self._moments[name] = fast, second, count
        root = (second / (1 - SECOND**count)).sqrt() + EPSILON
        return fast, fast / root

    def _row(self, name: str, update: Tensor, directions: Iterable[Tensor]) -> Row:
        size, before = _root_mean_square(update), _root_mean_square(self._before[name])
        relative = size / before if before else math.nan
        cosines = [-_cosine(update, direction) for direction in directions]
        return Row(self._steps, name, size, relative, *cosines)

    def __str__(self) -> str:
        """A line per parameter: median relative step size in each third, and mean cosines."""
        if not self.rows:
            return "no step was measured"
        lines = [f"{'':28} relative step size (median)      mean cosine of the steps with"]
        lines += [
            f"{'parameter':28} {'start':>9} {'middle':>9} {'end':>9}    "
            + "".join(f"{rule:>9}" for rule in RULES)
        ]
        for name in self._parameters:
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
        """Draw relative step sizes and cosines over the training, one line per parameter.

        Raises:
            ImportError: Without plotly.
            ValueError: No step was measured.
        """
        if not self.rows:
            raise ValueError("no step was measured; take steps within `with audit:`")
        return _figure(self.rows)


def _figure(rows: list[Row]) -> go.Figure:
    try:
        from plotly.colors import sample_colorscale
        from plotly.subplots import make_subplots
    except ImportError:
        raise ImportError("figures need plotly: pip install 'metahpo[plots]'") from None
    panels = {"relative": "relative size (log)"} | {rule: f"cosine, {rule}" for rule in RULES}
    names = list(dict.fromkeys(row.parameter for row in rows))
    # Dark for the first layers, light for the last.
    colors = sample_colorscale(
        "Viridis", [0.85 * i / max(1, len(names) - 1) for i in range(len(names))]
    )
    figure = make_subplots(len(panels), 1, shared_xaxes=True, vertical_spacing=0.03)
    for color, name in zip(colors, names, strict=True):
        own = [row for row in rows if row.parameter == name]
        for panel, column in enumerate(panels, start=1):
            figure.add_scatter(
                x=[row.step for row in own],
                y=[getattr(row, column) for row in own],
                mode="lines",
                name=name,
                legendgroup=name,
                showlegend=panel == 1,
                line={"color": color, "width": 1.5},
                row=panel,
                col=1,
            )
    for panel, title in enumerate(panels.values(), start=1):
        figure.update_yaxes(title=title, matches="y2" if panel > 2 else None, row=panel)
    figure.update_yaxes(type="log", dtick=1, tickformat="~g", row=1)
    figure.update_xaxes(title="step", row=len(panels))
    title = {"text": "Step sizes, and likeness of the steps to known rules", "x": 0.02}
    height, margin = 180 * len(panels), {"l": 70, "r": 20, "t": 60, "b": 50}
    return figure.update_layout(
        title=title, height=height, margin=margin, template="simple_white", font_size=13
    )


def _flat(tensor: Tensor) -> Tensor:
    """Flatten a tensor, in single precision or better, with complex numbers as pairs."""
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
