"""What LearnedOptimizer does to parameters: it trains, at any scale, width and precision."""

import pytest
import torch
from support.small_training import STEPS, all_equal, each_input, small_network, train, values
from torch import nn
from torch.testing._internal.common_optimizers import OptimizerInput

import metahpo
from metahpo.optim import LearnedOptimizer, initial_weights


@each_input
def test_it_fits_a_small_problem_with_any_option(given: OptimizerInput) -> None:
    model = small_network()
    losses = train(model, LearnedOptimizer(model.parameters(), **given.kwargs), STEPS)
    assert losses[-1] < 0.3 * losses[0]


def test_it_can_be_imported_from_metahpo() -> None:
    assert metahpo.LearnedOptimizer is LearnedOptimizer


def test_it_fits_a_small_problem_in_bfloat16() -> None:
    model = small_network(torch.bfloat16)
    losses = train(model, LearnedOptimizer(model.parameters(), STEPS), STEPS)
    assert losses[-1] < 0.5 * losses[0]


def test_weight_decay_shrinks_a_parameter_whose_gradient_is_zero() -> None:
    parameter = nn.Parameter(torch.ones(4, 4))
    optimizer = LearnedOptimizer([parameter], STEPS, weight_decay=0.5)
    parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.all(parameter < 1)
    assert torch.all(parameter > 0.97)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 5), (5, 1), (4, 3), (4, 3, 2, 2), (0, 3)])
def test_tensors_of_any_shape_move_unless_their_gradient_is_zero_or_missing(
    shape: tuple[int, ...],
) -> None:
    moved, still, unused = (nn.Parameter(torch.ones(shape)) for _ in range(3))
    optimizer = LearnedOptimizer([moved, still, unused], STEPS)
    for _ in range(3):
        moved.grad, still.grad = torch.ones(shape), torch.zeros(shape)
        optimizer.step()
    assert torch.all(moved < 1)
    assert torch.isfinite(moved).all()
    assert torch.equal(still, torch.ones(shape))
    assert torch.equal(unused, torch.ones(shape))
    assert unused not in optimizer.state


def test_the_scale_of_the_gradient_does_not_matter() -> None:
    results = []
    for factor in (1e-12, 1.0, 1e6):
        parameter = nn.Parameter(torch.ones(4, 3))
        optimizer = LearnedOptimizer([parameter], STEPS)
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            parameter.grad = factor * torch.randn(4, 3, generator=generator)
            optimizer.step()
        results.append(parameter.detach())
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(results[1], results[2], rtol=1e-4, atol=1e-4)


def test_grad_scaler_skips_steps_with_infinite_gradients() -> None:
    model = small_network()
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for infinite in (False, True):
        before = values(model)
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(2, 6)).square().mean()).backward()
        if infinite:
            next(model.parameters()).grad.fill_(torch.inf)
        scaler.step(optimizer)
        scaler.update()
        assert all_equal(before, values(model)) is infinite
    assert optimizer.param_groups[0]["step"] == 1


def test_training_stays_stable_far_past_num_steps() -> None:
    model = small_network()
    optimizer = LearnedOptimizer(model.parameters(), 15)
    losses = train(model, optimizer, 150)
    assert max(losses[15:]) < 1.1 * losses[14]
    assert optimizer.param_groups[0]["handover"] is None


def test_the_first_step_changes_outputs_equally_at_any_width() -> None:
    """Within a factor of 2.5 at widths 32 and 512.

    The last layer starts with mean square 1 / fan-in squared, as feature learning requires.
    """
    changes = []
    for width in (32, 512):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                              nn.Linear(width, 4))  # fmt: skip
        with torch.no_grad():
            model[4].weight *= (32 / width) ** 0.5
        inputs = torch.randn(128, 6)
        optimizer = LearnedOptimizer(model.parameters(), 10)
        before = model(inputs).detach()
        nn.functional.cross_entropy(model(inputs), torch.arange(128) % 4).backward()
        optimizer.step()
        changes.append((model(inputs).detach() - before).square().mean().sqrt().item())
    assert 1 / 2.5 < changes[1] / changes[0] < 2.5


def test_steps_do_not_grow_with_the_parameters() -> None:
    """Steps in one direction add up linearly; if they grew, long trainings would diverge."""
    parameter = nn.Parameter(torch.full((4, 4), 0.5))
    optimizer = LearnedOptimizer([parameter], 1_000_000, guard=False, weights=initial_weights())
    lengths = []
    for _ in range(300):
        before = parameter.detach().clone()
        parameter.grad = -torch.eye(4)
        optimizer.param_groups[0].update(step=100_000, lr=50.0)
        optimizer.step()
        lengths.append((parameter.detach() - before).norm().item())
    assert parameter.detach().norm() > 5 * before.new_full((4, 4), 0.5).norm()
    assert lengths[-1] == pytest.approx(lengths[10], rel=0.1)


def test_default_dtype_and_device_of_torch_do_not_matter() -> None:
    moved = []
    before = torch.get_default_dtype()
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            parameter = nn.Parameter(torch.ones(3, 2, dtype=torch.float32))
            optimizer = LearnedOptimizer([parameter], 20, weights=initial_weights())
            for _ in range(3):
                parameter.grad = parameter.detach().cos()
                optimizer.step(lambda: torch.tensor(0.5))
        finally:
            torch.set_default_dtype(before)
        moved.append(parameter.detach())
    assert torch.equal(*moved)
    with torch.device("meta"):
        optimizer.step()
    assert torch.isfinite(parameter).all()
