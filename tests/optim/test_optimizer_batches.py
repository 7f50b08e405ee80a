"""Equal results however LearnedOptimizer batches, lays out or compiles its tensors."""

import pytest
import torch
from support.small_training import STEPS, loss_closure, small_network, train, values
from torch import nn

from metahpo.optim import LearnedOptimizer, tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_foreach_gives_the_same_parameters_as_one_tensor_at_a_time(dtype: torch.dtype) -> None:
    models = [small_network(dtype) for _ in range(2)]
    for model, foreach in zip(models, (True, False), strict=True):
        optimizer = LearnedOptimizer(model.parameters(), STEPS, 0.1, foreach=foreach)
        train(model, optimizer, 10)
    for one, two in zip(*map(values, models), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("batch_elements", [1, 130])
def test_the_size_of_batches_does_not_change_the_parameters(
    monkeypatch, batch_elements: int
) -> None:
    """Three matrices of 64 elements: one by one, two by two, and all at once."""
    trained = []
    for elements in (batch_elements, 1 << 18):
        monkeypatch.setattr(tensors, "MAX_BATCH_ELEMENTS", elements)
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(6, 8), *(nn.Linear(8, 8) for _ in range(3)), nn.Linear(8, 1)
        )
        train(model, LearnedOptimizer(model.parameters(), STEPS), 3)
        trained.append(values(model))
    for one, two in zip(*trained, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_parameters_of_several_dtypes_in_one_group_move_as_if_each_were_alone() -> None:
    types = (torch.bfloat16, torch.float16, torch.float32, torch.float64)

    def parameters() -> list[nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(4, 3, generator=generator)
        return [nn.Parameter(start.clone().to(dtype)) for dtype in types]

    together, alone = parameters(), parameters()
    optimizers = [LearnedOptimizer(together, STEPS)]
    optimizers += [LearnedOptimizer([parameter], STEPS) for parameter in alone]
    for _ in range(3):
        for parameter in (*together, *alone):
            parameter.grad = parameter.detach().cos()
        for optimizer in optimizers:
            optimizer.step()
    for one, two in zip(together, alone, strict=True):
        assert torch.equal(one, two)
        assert one.dtype == two.dtype


@pytest.mark.parametrize("shape", [(5,), (), (3, 4)])
def test_complex_parameters_move_as_pairs_of_real_ones(shape: tuple[int, ...]) -> None:
    """A complex row becomes a real row of twice the length: vectors stay vectors."""
    start = torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    real = torch.view_as_real(start)
    pairs = nn.Parameter(real.flatten(-2).clone() if shape else real.clone())
    whole = nn.Parameter(start.clone())
    both = [LearnedOptimizer([p], STEPS) for p in (whole, pairs)]
    for _ in range(3):
        # Lazily conjugated, as autograd may return it.
        whole.grad = (whole.detach() * (1 + 2j)).resolve_conj().conj()
        pairs.grad = torch.view_as_real(whole.grad.resolve_conj()).view_as(pairs).clone()
        for optimizer in both:
            optimizer.step()
    assert torch.equal(torch.view_as_real(whole.detach()).view_as(pairs), pairs.detach())


def test_the_memory_format_does_not_matter() -> None:
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=layout))
        optimizer = LearnedOptimizer([parameter], STEPS)
        for _ in range(3):
            parameter.grad = parameter.detach().cos().to(memory_format=layout)
            optimizer.step()
        results.append(parameter.detach().contiguous())
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


def test_a_compiled_step_gives_the_same_parameters_as_an_eager_one() -> None:
    models = [small_network() for _ in range(2)]
    for model, compiled in zip(models, (False, True), strict=True):
        optimizer = LearnedOptimizer(model.parameters(), STEPS)
        closure = loss_closure(model, optimizer)
        step = torch.compile(optimizer.step, backend="aot_eager") if compiled else optimizer.step
        for _ in range(3):
            closure()
            step()
    for one, two in zip(*map(values, models), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)
