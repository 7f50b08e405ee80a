"""The plain reference implementation against the optimizer that ships."""

import inspect
import math

import pytest
import torch
from torch import nn

from metahpo.optim import LearnedOptimizer, reference

# Matrices (wide, tall, squares on top of each other), convolution kernels, vectors, scalars.
SHAPES = [
    (6, 9),
    (9, 6),
    (12, 4),
    (7, 7),
    (8, 3, 3, 3),
    (4, 2, 5),
    (11,),
    (1,),
    (),
    (1, 5),
    (5, 1),
]


def _gradients(start: torch.Tensor, steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    # Uneven over the rows and the steps, as gradients are.
    uneven = torch.randn(start.shape, generator=generator).exp()
    return [
        uneven * math.exp(-step / 20) * torch.randn(start.shape, generator=generator)
        for step in range(steps)
    ]


@pytest.mark.parametrize("weight_decay", [0.0, 0.4])
@pytest.mark.parametrize(("shape", "embedding"), [(s, False) for s in SHAPES] + [((7, 5), True)])
def test_the_reference_takes_the_same_steps_as_the_optimizer(shape, embedding, weight_decay):
    """Through warm-up and decay, and for ten steps past the end of the schedule."""
    num_steps = 70
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    fast, plain = nn.Parameter(start.clone()), start.clone()
    group = {"params": [fast], "embedding": embedding}
    optimizer = LearnedOptimizer([group], num_steps, weight_decay)
    momentum, second_moment = torch.zeros(shape), torch.zeros(shape)
    for step, gradient in enumerate(_gradients(start, num_steps + 10)):
        fast.grad = gradient.clone()
        optimizer.step()
        reference.reference_step(
            plain, gradient, momentum, second_moment, step, num_steps, weight_decay, embedding
        )
    assert not torch.allclose(plain, start, rtol=0.01, atol=0.01)
    torch.testing.assert_close(plain, fast.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_steps", [5, 300, 20_000])
def test_the_reference_has_the_step_sizes_of_any_number_of_steps(num_steps):
    """The first step, without decay of the direction: its size alone differs."""
    fast = nn.Parameter(torch.zeros(6, 4))
    fast.grad = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    plain, moments = torch.zeros(6, 4), torch.zeros(2, 6, 4)
    LearnedOptimizer([fast], num_steps).step()
    reference.reference_step(plain, fast.grad, *moments, 0, num_steps)
    torch.testing.assert_close(plain, fast.detach(), rtol=1e-5, atol=1e-7)


def test_the_reference_is_short_enough_to_read():
    assert len(inspect.getsource(reference).splitlines()) <= 80
