"""Parameter groups, schedulers and hooks, as with any optimizer of PyTorch."""

import pytest
import torch
from support.small_training import INFO, STEPS, small_network, train, values
from torch import nn

from metahpo.optim import LearnedOptimizer


def test_step_hooks_are_called_around_the_closure() -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = LearnedOptimizer([parameter], STEPS)
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.step(lambda: calls.append("closure"))
    assert calls == ["before", "closure", "after"]


@pytest.mark.parametrize("kind", ["tensor", "iterator", "named"])
def test_parameters_may_be_a_list_an_iterator_or_named(kind: str) -> None:
    model = small_network()
    given = {
        "tensor": [torch.ones(2, requires_grad=True)],
        "iterator": iter(model.parameters()),
        "named": model.named_parameters(),
    }[kind]
    optimizer = LearnedOptimizer(given, STEPS)
    if kind == "named":
        names = optimizer.state_dict()["param_groups"][0]["param_names"]
        assert names == [name for name, _ in model.named_parameters()]


def test_frozen_parameters_do_not_move() -> None:
    model = small_network()
    model[0].requires_grad_(False)
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    before = values(model)
    train(model, optimizer, 3)
    moved = [not torch.equal(a, b) for a, b in zip(before, values(model), strict=True)]
    assert moved == [False, False] + [True] * (len(moved) - 2)


def test_each_group_has_its_own_settings_and_step_count() -> None:
    model = small_network()
    layers = [list(layer.parameters()) for layer in (model[0], model[2], model[4])]
    optimizer = LearnedOptimizer(
        [{"params": layers[0], "lr": 0.0}, {"params": layers[1], "num_steps": 5}], STEPS
    )
    optimizer.add_param_group({"params": layers[2], "weight_decay": 0.5})
    before = values(model)
    train(model, optimizer, 2)
    same = [torch.equal(a, b) for a, b in zip(before, values(model), strict=True)]
    assert same == [True, True, False, False, True, True, False, False, True, True]
    assert [g["step"] for g in optimizer.param_groups] == [2, 2, 2]
    assert [g["num_steps"] for g in optimizer.param_groups] == [STEPS, 5, STEPS]


def test_learning_rate_schedulers_scale_the_step() -> None:
    models = [small_network(torch.float64) for _ in range(2)]
    before = values(models[0])
    moves = []
    for model, factor in zip(models, (1.0, 0.25), strict=True):
        optimizer = LearnedOptimizer(model.parameters(), STEPS)
        torch.optim.lr_scheduler.ConstantLR(optimizer, factor=factor, total_iters=9)
        train(model, optimizer, 1)
        moves.append([b - a for a, b in zip(before, values(model), strict=True)])
    for whole, quarter in zip(*moves, strict=True):
        torch.testing.assert_close(0.25 * whole, quarter)


@pytest.mark.parametrize("schedulers", INFO.scheduler_inputs[0])
def test_every_scheduler_of_torch_runs(schedulers) -> None:
    model = small_network()
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    scheduler = schedulers(optimizer)
    for loss in train(model, optimizer, 3):
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(loss)
        else:
            scheduler.step()


CYCLING = {
    "one": lambda optimizer, **options: torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=9, **options
    ),
    "cyclic": lambda optimizer, **options: torch.optim.lr_scheduler.CyclicLR(
        optimizer, base_lr=0.1, max_lr=1.0, **options
    ),
}


@pytest.mark.parametrize("name", CYCLING)
def test_schedulers_that_cycle_the_momentum_say_how_to_go_on(name: str) -> None:
    model = small_network()
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    with pytest.raises(ValueError, match="cycle_momentum=False"):
        CYCLING[name](optimizer)
    scheduler = CYCLING[name](optimizer, cycle_momentum=False)
    for _ in train(model, optimizer, 3):
        scheduler.step()
    # Nobody else who looks for a momentum is disturbed.
    assert "betas" not in optimizer.defaults
    assert "momentum" not in optimizer.defaults
