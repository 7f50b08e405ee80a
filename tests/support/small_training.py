"""A small network and its training, and LearnedOptimizer as torch's own tests describe one."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing._internal.common_optimizers import (
    OptimizerInfo,
    OptimizerInput,
    get_error_inputs_for_all_optims,
)

from metahpo.optim import LearnedOptimizer
from metahpo.optim.weights import shipped_weights

STEPS = 60

INFO = OptimizerInfo(
    LearnedOptimizer,
    optim_inputs_func=lambda device: [
        OptimizerInput(None, {"num_steps": STEPS}, "default"),
        OptimizerInput(None, {"num_steps": STEPS, "weight_decay": 0.1}, "weight decay"),
        OptimizerInput(None, {"num_steps": STEPS, "guard": False}, "unguarded"),
        OptimizerInput(None, {"num_steps": STEPS, "foreach": False}, "one by one"),
    ],
    # LearnedOptimizer takes no learning rate.
    optim_error_inputs_func=lambda device, dtype: [
        error
        for error in get_error_inputs_for_all_optims(device, dtype)
        if "lr" not in error.optimizer_error_input.kwargs
    ],
    supported_impls=("foreach",),
)
INPUTS = INFO.optim_inputs_func("cpu")
each_input = pytest.mark.parametrize("given", INPUTS, ids=[i.desc for i in INPUTS])


def small_network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)]
    return nn.Sequential(*layers, nn.Linear(8, 1)).to(dtype)


def loss_closure(model: nn.Module, optimizer: torch.optim.Optimizer):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(64, 6, generator=generator)
    dtype = next(model.parameters()).dtype
    targets = (inputs[:, :1] * inputs[:, 1:2]).to(dtype)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(inputs.to(dtype)) - targets).square().mean()
        loss.backward()
        return loss

    return closure


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    closure = loss_closure(model, optimizer)
    return [optimizer.step(closure).item() for _ in range(steps)]


def values(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def all_equal(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def weights_with_tiny_network() -> dict[str, Tensor]:
    """The shipped weights with a network that must be evaluated, but returns next to nothing."""
    return {**shipped_weights(), "rule.last.bias": torch.full((9,), 1e-12)}
