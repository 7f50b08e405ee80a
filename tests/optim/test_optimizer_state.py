"""The state of LearnedOptimizer: saved, loaded, copied and pickled."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given as in_cases
from hypothesis import settings
from hypothesis import strategies as st
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


# ---- states that do not fit ----------------------------------------------------------------


def _state(optimizer: torch.optim.Optimizer) -> dict:
    return copy.deepcopy(optimizer.state_dict())


def _assert_refused(saved: object, message: str) -> None:
    """Also that the optimizer is as before and goes on as if nothing had happened."""
    models = [small_network(), small_network()]
    optimizers = [LearnedOptimizer(model.parameters(), STEPS) for model in models]
    for model, optimizer in zip(models, optimizers, strict=True):
        train(model, optimizer, 2)
    with pytest.raises(ValueError, match=message):
        optimizers[0].load_state_dict(saved)
    assert train(models[0], optimizers[0], 2) == train(models[1], optimizers[1], 2)


@pytest.mark.parametrize(
    "make",
    [
        torch.optim.AdamW,
        lambda p: torch.optim.SGD(p, momentum=0.9),
        torch.optim.Adagrad,
        lambda p: torch.optim.RMSprop(p, momentum=0.9),
        torch.optim.Adafactor,
    ],
)
def test_the_state_of_another_optimizer_is_refused_when_it_is_loaded(make) -> None:
    model = small_network()
    other = make(model.parameters())
    train(model, other, 2)
    _assert_refused(other.state_dict(), "saved by another optimizer")
    # Its tensors alone, under groups that fit.
    own = _state(LearnedOptimizer(model.parameters(), STEPS))
    _assert_refused({**own, "state": other.state_dict()["state"]}, "saved by another optimizer")


@pytest.mark.parametrize("saved", [None, [], {}, {"state": {}}, {"param_groups": []}])
def test_what_is_no_state_is_refused(saved) -> None:
    _assert_refused(saved, "state_dict must")


def test_states_of_other_groups_and_shapes_are_refused() -> None:
    model = small_network()
    parameters = list(model.parameters())
    for groups, message in [
        ([{"params": parameters[:1]}, {"params": parameters[1:]}], "2 parameter groups"),
        ([{"params": parameters[:-1]}], "has 9 parameters|has 11 parameters"),
        ([{"params": parameters[::-1]}], "shape"),
    ]:
        other = LearnedOptimizer(groups, STEPS)
        train(model, other, 2)
        _assert_refused(other.state_dict(), message)


MOMENT = ("momentum", "second_moment")
# Where in a state something is replaced, and by what.
CHANGES = st.one_of(
    st.tuples(
        st.just("group"),
        st.sampled_from(["step", "num_steps", "losses", "guard_state", "handover", "lr",
                         "weight_decay"]),
        st.sampled_from(["text", -1, float("nan"), (), (1.0,), [None] * 4, {}, 1.5, (1j,) * 13]),
    ),
    st.tuples(
        st.just("missing option"),
        st.sampled_from(["step", "num_steps", "losses", "guard_state", "handover", "guard",
                         "embedding", "foreach", "weight_decay", "lr"]),
        st.none(),
    ),
    st.tuples(st.just("state"), st.just("step"),
              st.sampled_from(["text", -1, float("inf"), None, torch.ones(2)])),
    st.tuples(
        st.just("state"),
        st.sampled_from(MOMENT),
        st.sampled_from([None, 1.0, "text", [1.0], torch.ones(()), torch.ones(3, 3),
                         "nan", "inf", "integers", "complex"]),
    ),
    st.tuples(st.just("missing"), st.sampled_from(["step", *MOMENT]), st.none()),
    st.tuples(st.just("negative"), st.just("second_moment"), st.none()),
    st.tuples(st.just("unknown"), st.sampled_from([99, "x"]), st.none()),
)  # fmt: skip


def _changed(saved: dict, number: int, kind: str, name: str, value: object) -> dict:
    group, state = saved["param_groups"][0], saved["state"][number]
    match kind:
        case "group":
            group[name] = value
        case "missing option":
            del group[name]
        case "state" if isinstance(value, str) and name in MOMENT:
            state[name] = {
                "nan": lambda t: t.fill_(torch.nan),
                "inf": lambda t: t.fill_(torch.inf),
                "integers": lambda t: t.long(),
                "complex": lambda t: t.to(torch.complex64),
                "text": lambda t: "text",
            }[value](state[name])
        case "state":
            state[name] = value
        case "missing":
            del state[name]
        case "negative":
            state[name].fill_(-1.0)
        case "unknown":
            saved["state"][name] = state
    return saved


@settings(max_examples=60, deadline=None)
@in_cases(st.integers(0, 9), CHANGES)
def test_a_state_with_anything_wrong_is_refused_and_nothing_changes(number: int, change) -> None:
    model = small_network()
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    train(model, optimizer, 1)
    # Of what was changed, numbers of losses and steps may be whole or not given at all.
    before = _state(optimizer)
    with pytest.raises(ValueError, match="state"):
        optimizer.load_state_dict(_changed(_state(optimizer), number, *change))
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for key, state in before["state"].items():
        assert all(torch.equal(state[name], after["state"][key][name]) for name in state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_moments_of_another_precision_are_loaded_in_single_precision(dtype) -> None:
    model = small_network()
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    train(model, optimizer, 2)
    saved = _state(optimizer)
    for state in saved["state"].values():
        state.update({name: state[name].to(dtype) for name in MOMENT})
    optimizer.load_state_dict(saved)
    train(model, optimizer, 2)
    moments = [state["momentum"] for state in optimizer.state.values()]
    assert {moment.dtype for moment in moments} == {torch.float32}


def _with_group(**changed: object):
    def change(saved: dict) -> dict:
        groups = [{**saved["param_groups"][0], **changed}, *saved["param_groups"][1:]]
        return {**saved, "param_groups": groups}

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(lambda saved, groups=groups: {**saved, "param_groups": groups}
          for groups in ([{}], None, [5], [{"params": None}], 3)),
        *(lambda saved, state=state: {**saved, "state": state}
          for state in ([], None, {0: torch.ones(2)}, {0: 5})),
        lambda saved: {**saved, "state": {0: {**saved["state"][0], "more": 1}}},
        *(_with_group(**{name: value}) for name, value in
          [("embedding", "x"), ("guard", 3), ("guard", None), ("foreach", "no"), ("lr", "x"),
           ("weight_decay", None), ("params", [[0], [1]]), ("num_steps", True)]),
    ],
)  # fmt: skip
def test_values_of_other_types_are_refused_before_anything_is_loaded(change) -> None:
    model = small_network()
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    train(model, optimizer, 1)
    _assert_refused(change(_state(optimizer)), "state")
