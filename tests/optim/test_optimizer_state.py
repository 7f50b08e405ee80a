"""The state of LearnedOptimizer: saved, loaded, copied and pickled."""

import copy
import pickle

import numpy as np
import pytest
import torch
from support.small_training import (
    STEPS,
    all_equal,
    each_input,
    small_network,
    train,
    values,
    weights_with_tiny_network,
)
from torch.testing._internal.common_optimizers import OptimizerInput

from metahpo.optim import LearnedOptimizer


@each_input
def test_a_training_resumed_from_a_pickled_state_dict_is_identical(given: OptimizerInput) -> None:
    model = small_network()
    optimizer = LearnedOptimizer(model.parameters(), **given.kwargs)
    train(model, optimizer, 20)
    other = copy.deepcopy(model)
    resumed = LearnedOptimizer(other.parameters(), num_steps=1)
    resumed.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    assert train(model, optimizer, 10) == train(other, resumed, 10)
    assert all_equal(values(model), values(other))


def test_a_saved_state_loads_with_weights_only(tmp_path) -> None:
    model = small_network()
    optimizer = LearnedOptimizer(model.parameters(), np.int64(STEPS))
    train(model, optimizer, 3)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    read = torch.load(tmp_path / "state.pt", weights_only=True)
    assert read["param_groups"] == optimizer.state_dict()["param_groups"]


def test_loading_neither_modifies_nor_shares_the_state_dict() -> None:
    model = small_network()
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    train(model, optimizer, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    given = copy.deepcopy(saved)
    other = LearnedOptimizer(model.parameters(), 7)
    other.load_state_dict(given)
    train(model, other, 3)
    assert given["param_groups"] == saved["param_groups"]
    for number, state in saved["state"].items():
        assert given["state"][number].keys() == state.keys()
        assert all(torch.equal(state[name], given["state"][number][name]) for name in state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_state_of_half_precision_parameters_is_in_single_precision_even_after_loading(
    dtype: torch.dtype,
) -> None:
    model = small_network(dtype)
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    train(model, optimizer, 5)
    other = LearnedOptimizer(model.parameters(), STEPS)
    other.load_state_dict(optimizer.state_dict())
    for parameter in model.parameters():
        for name, value in optimizer.state[parameter].items():
            assert value.dtype == torch.float32
            assert torch.equal(other.state[parameter][name], value)
            assert other.state[parameter][name].dtype == torch.float32


@pytest.mark.parametrize("before", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("after", [torch.bfloat16, torch.float32, torch.float64])
def test_a_state_is_loaded_in_the_precision_that_the_parameters_need(
    before: torch.dtype, after: torch.dtype
) -> None:
    model = small_network(before)
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    train(model, optimizer, 3)
    other = copy.deepcopy(model).to(after)
    resumed = LearnedOptimizer(other.parameters(), STEPS)
    resumed.load_state_dict(optimizer.state_dict())
    train(other, resumed, 2)
    for parameter in other.parameters():
        state = resumed.state[parameter]
        assert state["momentum"].dtype is torch.promote_types(after, torch.float32)
        assert state["step"].item() == 5


def test_load_state_dict_hooks_see_the_restored_state() -> None:
    model = small_network(torch.bfloat16)
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    train(model, optimizer, 2)
    other = LearnedOptimizer(model.parameters(), STEPS)
    seen = []

    def rename(_, state):
        return {**state, "param_groups": [{**g, "lr": 0.5} for g in state["param_groups"]]}

    other.register_load_state_dict_pre_hook(rename)
    other.register_load_state_dict_post_hook(
        lambda opt: seen.extend(s["momentum"].dtype for s in opt.state.values())
    )
    other.load_state_dict(optimizer.state_dict())
    assert set(seen) == {torch.float32}
    assert other.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_and_pickles_of_an_optimizer_train_identically(copied) -> None:
    model = small_network()
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    train(model, optimizer, 5)
    both = copied((model, optimizer))
    assert train(model, optimizer, 5) == train(*both, 5)
    assert both[1].state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def test_a_state_dict_may_hold_the_step_as_a_plain_number() -> None:
    models = [small_network(), small_network()]
    optimizers = [LearnedOptimizer(model.parameters(), STEPS) for model in models]
    train(models[0], optimizers[0], 3)
    saved = copy.deepcopy(optimizers[0].state_dict())
    for state in saved["state"].values():
        state["step"] = state["step"].item()
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(saved)
    assert train(models[0], optimizers[0], 3) == train(models[1], optimizers[1], 3)


def test_moments_that_the_weights_do_not_need_are_not_kept() -> None:
    model = small_network()
    both = [
        LearnedOptimizer(model.parameters(), STEPS, weights=w)
        for w in (None, weights_with_tiny_network())
    ]
    for optimizer in both:
        train(model, optimizer, 2)
    two, three = (optimizer.state_dict() for optimizer in both)
    assert two["state"][0].keys() == {"step", "momentum", "second_moment"}
    assert three["state"][0].keys() == two["state"][0].keys() | {"slow_momentum"}
    with pytest.raises(ValueError, match="lacks slow_momentum, which these weights require"):
        both[1].load_state_dict(two)
    both[0].load_state_dict(three)
    assert both[0].state_dict()["state"][0].keys() == two["state"][0].keys()
    assert "slow_momentum" in three["state"][0]
    # A pickle may hold more than these weights need.
    both[0].__setstate__(copy.deepcopy(three))
    assert "slow_momentum" not in both[0].state_dict()["state"][0]
