"""Trainings whose losses rise: because they blow up, or because the objective shifts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from metahpo.optim import LearnedOptimizer

# From the model and the number of the step to the loss.
Loss = Callable[[nn.Module, int], Tensor]


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        loss: The loss at each step.
        model: Makes the network.
        lr: Factor on the step size, from ``late`` on (1 before).
        late: Step from which ``lr`` holds.
    """

    loss: Loss
    model: Callable[[], nn.Module]
    lr: float = 1.0
    late: int = 0

    def run(
        self, num_steps: int, steps: int = 160, seed: int = 0, *, guard: bool = True
    ) -> tuple[int | None, list[float]]:
        """Return the step of the hand-over, and the losses."""
        torch.manual_seed(seed)
        model = self.model()
        optimizer = LearnedOptimizer(model.parameters(), num_steps, guard=guard)
        losses = []
        for step in range(min(steps, num_steps)):
            optimizer.param_groups[0]["lr"] = self.lr if step >= self.late else 1.0
            optimizer.zero_grad()
            loss = self.loss(model, step)
            loss.backward()
            losses.append(loss.item())
            optimizer.step(loss.detach)
        return optimizer.param_groups[0]["handover"], losses


def perceptron(outputs: int = 1, activation: type[nn.Module] = nn.Tanh) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), activation(), nn.Linear(16, 16), activation(),
                         nn.Linear(16, outputs))  # fmt: skip


def deep_linear() -> nn.Module:
    """Its outputs are products of eight matrices, which explode."""
    sizes = [6, *[16] * 7, 1]
    layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)]
    return nn.Sequential(*layers)


def inputs(step: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return scale * torch.randn(64, 6, generator=generator)


def product(x: Tensor) -> Tensor:
    return x[:, :1] * x[:, 1:2]


def regression(scale: Callable[[int], float] = lambda step: 1.0) -> Loss:
    """Of targets whose scale depends on the step."""

    def loss(model: nn.Module, step: int) -> Tensor:
        x = inputs(step)
        return (model(x) - scale(step) * product(x)).square().mean()

    return loss


def linear_regression(scale: Callable[[int], float] = lambda step: 1.0) -> Loss:
    def loss(model: nn.Module, step: int) -> Tensor:
        x = inputs(step)
        return (model(x) - scale(step) * x.sum(1, keepdim=True)).square().mean()

    return loss


def classification(model: nn.Module, step: int) -> Tensor:
    x = inputs(step)
    return nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long())


def changed(at: int, factor: float = 1.0, offset: float = 0.0) -> Loss:
    """A regression whose loss has another scale or an offset from a step on."""
    plain = regression()
    return lambda model, step: (
        plain(model, step) * factor + offset if step >= at else plain(model, step)
    )


def with_auxiliary_loss(weight: float) -> Loss:
    plain = regression()

    def loss(model: nn.Module, step: int) -> Tensor:
        auxiliary = (model(inputs(step)) - 3).square().mean()
        return plain(model, step) + weight * min(1.0, step / 100) * auxiliary

    return loss


def returns(growth: float, noise: float) -> Loss:
    """Values of a policy that gets better: returns that grow, with noise of heavy tails."""

    def loss(model: nn.Module, step: int) -> Tensor:
        x, generator = inputs(step), torch.Generator().manual_seed(10_000 + step)
        draws = torch.randn(64, 1, generator=generator)
        tail = torch.rand((), generator=generator).pow(-0.5).clamp(max=10)
        target = growth * step * (1 + 0.5 * x[:, :1]) + noise * growth * (step + 1) * draws * tail
        return (model(x) - target).square().mean()

    return loss


def harder_inputs(model: nn.Module, step: int) -> Tensor:
    """A curriculum: inputs of 1, 4, 7 and 10 times the scale."""
    x = inputs(step, 1.0 + 3 * min(3, step // 40))
    return (model(x) - product(x)).square().mean()


def bad_batch(scale: float, at: int = 50) -> Loss:
    def loss(model: nn.Module, step: int) -> Tensor:
        x = inputs(step, scale if step == at else 1.0)
        return (model(x) - product(x)).square().mean()

    return loss


relu = nn.ReLU
BLOW_UPS = {
    **{f"regression, {lr} x": Training(regression(), perceptron, lr) for lr in (100, 300)},
    "classification, 100 x": Training(classification, lambda: perceptron(4, relu), 100),
    "rectified, 100 x": Training(regression(), lambda: perceptron(1, relu), 100),
    "exploding linear network": Training(linear_regression(), deep_linear, 10),
    "late, regression": Training(regression(), perceptron, 100, late=50),
    "late, classification": Training(classification, lambda: perceptron(4, relu), 100, late=50),
    "late, linear": Training(linear_regression(), deep_linear, 30, late=50),
}
SHIFTS = {
    "targets + 5% of the first": Training(regression(lambda t: 1 + 0.05 * t), perceptron),
    "targets + 100%": Training(regression(lambda t: 1.0 + t), perceptron),
    "targets x 1.03": Training(regression(lambda t: math.exp(0.03 * t)), perceptron),
    "quadratic targets": Training(regression(lambda t: 1 + (0.5 * t) ** 2), perceptron),
    "linear targets": Training(linear_regression(lambda t: 1.0 + t), lambda: perceptron(1, relu)),
    "linear model": Training(linear_regression(lambda t: 1.0 + t), lambda: nn.Linear(6, 1)),
    "curriculum of targets": Training(regression(lambda t: 10.0 ** (t // 40)), perceptron),
    "curriculum of inputs": Training(harder_inputs, lambda: perceptron(1, relu)),
    "sums for means": Training(changed(60, factor=64), perceptron),
    "early sums for means": Training(changed(5, factor=64), perceptron),
    "other units": Training(changed(60, factor=1e5), perceptron),
    "offset": Training(changed(60, offset=1000), perceptron),
    "early offset": Training(changed(5, offset=1000), perceptron),
    "auxiliary loss": Training(with_auxiliary_loss(1), perceptron),
    "large auxiliary loss": Training(with_auxiliary_loss(100), perceptron),
    "returns": Training(returns(1, 0.1), perceptron),
    "noisy returns": Training(returns(1, 3), perceptron),
}
