"""LearnedOptimizer as a drop-in: state, groups, precision, implementations, errors, guard."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing._internal.common_optimizers import (
    OptimizerErrorEnum,
    OptimizerInfo,
    OptimizerInput,
    get_error_inputs_for_all_optims,
)

import metahpo
from metahpo.optim import (
    LearnedOptimizer,
    WeightsError,
    initial_weights,
    load_weights,
    parameter_groups,
    rule,
    save_weights,
)
from metahpo.optim.fixed import fixed_direction, fixed_shares
from metahpo.optim.orthogonal import orthogonalised
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
    # There is no learning rate to be given.
    optim_error_inputs_func=lambda device, dtype: [
        error
        for error in get_error_inputs_for_all_optims(device, dtype)
        if "lr" not in error.optimizer_error_input.kwargs
    ],
    supported_impls=("foreach",),
)
INPUTS = INFO.optim_inputs_func("cpu")
each_input = pytest.mark.parametrize("given", INPUTS, ids=[i.desc for i in INPUTS])


def _network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)]
    return nn.Sequential(*layers, nn.Linear(8, 1)).to(dtype)


def _closure(model: nn.Module, optimizer: torch.optim.Optimizer):
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


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    closure = _closure(model, optimizer)
    return [optimizer.step(closure).item() for _ in range(steps)]


def _values(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def _all_equal(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@each_input
def test_it_learns(given: OptimizerInput) -> None:
    model = _network()
    losses = _train(model, LearnedOptimizer(model.parameters(), **given.kwargs), STEPS)
    assert losses[-1] < 0.3 * losses[0]


def test_it_is_there_without_asking_for_torch_first() -> None:
    assert metahpo.LearnedOptimizer is LearnedOptimizer


@each_input
def test_state_round_trip_goes_on_bit_for_bit(given: OptimizerInput) -> None:
    model = _network()
    optimizer = LearnedOptimizer(model.parameters(), **given.kwargs)
    _train(model, optimizer, 20)
    other = copy.deepcopy(model)
    resumed = LearnedOptimizer(other.parameters(), num_steps=1)
    resumed.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    assert _train(model, optimizer, 10) == _train(other, resumed, 10)
    assert _all_equal(_values(model), _values(other))


def test_a_saved_state_is_read_with_weights_only(tmp_path) -> None:
    model = _network()
    optimizer = LearnedOptimizer(model.parameters(), np.int64(STEPS))
    _train(model, optimizer, 3)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    read = torch.load(tmp_path / "state.pt", weights_only=True)
    assert read["param_groups"] == optimizer.state_dict()["param_groups"]


def test_loading_neither_alters_nor_shares_the_dictionary() -> None:
    model = _network()
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    _train(model, optimizer, 3)
    saved = copy.deepcopy(optimizer.state_dict())
    given = copy.deepcopy(saved)
    other = LearnedOptimizer(model.parameters(), 7)
    other.load_state_dict(given)
    _train(model, other, 3)
    assert given["param_groups"] == saved["param_groups"]
    for number, state in saved["state"].items():
        assert given["state"][number].keys() == state.keys()
        assert all(torch.equal(state[name], given["state"][number][name]) for name in state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_state_of_half_precision_is_single_after_loading_too(dtype: torch.dtype) -> None:
    model = _network(dtype)
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    _train(model, optimizer, 5)
    other = LearnedOptimizer(model.parameters(), STEPS)
    other.load_state_dict(optimizer.state_dict())
    for parameter in model.parameters():
        for name, value in optimizer.state[parameter].items():
            assert value.dtype == torch.float32
            assert torch.equal(other.state[parameter][name], value)
            assert other.state[parameter][name].dtype == torch.float32


def test_bfloat16_learns() -> None:
    model = _network(torch.bfloat16)
    losses = _train(model, LearnedOptimizer(model.parameters(), STEPS), STEPS)
    assert losses[-1] < 0.5 * losses[0]


def test_hooks_of_loading_see_the_restored_state() -> None:
    model = _network(torch.bfloat16)
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    _train(model, optimizer, 2)
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
def test_copies_and_pickles_go_on_alike(copied) -> None:
    model = _network()
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    _train(model, optimizer, 5)
    both = copied((model, optimizer))
    assert _train(model, optimizer, 5) == _train(*both, 5)
    assert both[1].state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_foreach_equals_the_plain_reference(dtype: torch.dtype) -> None:
    models = [_network(dtype) for _ in range(2)]
    for model, foreach in zip(models, (True, False), strict=True):
        optimizer = LearnedOptimizer(model.parameters(), STEPS, 0.1, foreach=foreach)
        _train(model, optimizer, 10)
    for one, two in zip(*map(_values, models), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


# ---- what test_optim.py, which PyTorch does not ship, asserts of every optimizer ---------------


def test_steps_that_are_no_tensors_are_loaded() -> None:
    models = [_network(), _network()]
    optimizers = [LearnedOptimizer(model.parameters(), STEPS) for model in models]
    _train(models[0], optimizers[0], 3)
    saved = copy.deepcopy(optimizers[0].state_dict())
    for state in saved["state"].values():
        state["step"] = state["step"].item()
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(saved)
    assert _train(models[0], optimizers[0], 3) == _train(models[1], optimizers[1], 3)


@pytest.mark.parametrize("shape", [(6, 4), (3, 5), (7, 7), (1, 9)])
@pytest.mark.parametrize("kind", range(rule.KINDS))
def test_without_a_say_of_the_network_the_rule_is_its_mixture(kind: int, shape) -> None:
    """The shortcut against the rule itself, each candidate with a share and then a few of them."""
    generator = torch.Generator().manual_seed(0)
    gradient, parameter, fast, slow = torch.randn(4, 2, *shape, generator=generator).double()
    moments = rule.Moments(fast, torch.rand(gradient.shape, generator=generator).double(), slow)
    weights = initial_weights()
    for left_out in (0.0, 0.7):
        mix = torch.randn(rule.KINDS, rule.CANDIDATES, generator=generator)
        weights["rule.mix"] = mix * (torch.rand(mix.shape, generator=generator) >= left_out)
        batched = {name: tensor.double()[None] for name, tensor in weights.items()}
        expected = rule.direction(batched, kind, gradient, parameter, moments.corrected(7))
        shares = fixed_shares(weights)
        assert shares is not None
        found = fixed_direction(shares[kind], kind, gradient, moments)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def _hardly_speaking() -> dict[str, Tensor]:
    """The shipped weights, with a network that is asked and all but silent."""
    return {**shipped_weights(), "rule.last.bias": torch.full((9,), 1e-12)}


@pytest.mark.parametrize("slow", [0.0, 0.5])
def test_the_optimizer_is_the_same_where_the_network_need_not_be_asked(slow: float) -> None:
    silent, speaking = shipped_weights(), _hardly_speaking()
    mix = silent["rule.mix"].clone()
    mix[:, 2] = slow
    trained = []
    for weights in (silent, speaking):
        model = _network(torch.float64)
        weights = {**weights, "rule.mix": mix}
        _train(model, LearnedOptimizer(model.parameters(), STEPS, weights=weights), 20)
        trained.append(_values(model))
    for one, two in zip(*trained, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("together", [1, 130])
def test_many_equal_tensors_are_updated_in_parts(monkeypatch, together: int) -> None:
    """Of 64 elements a matrix: one by one, two by two, and all three at once."""
    trained = []
    for at_once in (together, 1 << 18):
        monkeypatch.setattr(metahpo.optim.tensors, "TOGETHER", at_once)
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(6, 8), *(nn.Linear(8, 8) for _ in range(3)), nn.Linear(8, 1)
        )
        _train(model, LearnedOptimizer(model.parameters(), STEPS), 3)
        trained.append(_values(model))
    for one, two in zip(*trained, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_moments_that_the_weights_do_not_take_are_not_kept() -> None:
    model = _network()
    both = [
        LearnedOptimizer(model.parameters(), STEPS, weights=w) for w in (None, _hardly_speaking())
    ]
    for optimizer in both:
        _train(model, optimizer, 2)
    few, all_of_them = (optimizer.state_dict() for optimizer in both)
    assert few["state"][0].keys() == {"step", "momentum", "second_moment"}
    assert all_of_them["state"][0].keys() == few["state"][0].keys() | {"slow_momentum"}
    with pytest.raises(ValueError, match="fewer moments"):
        both[1].load_state_dict(few)
    both[0].load_state_dict(all_of_them)
    assert both[0].state_dict()["state"][0].keys() == few["state"][0].keys()
    assert "slow_momentum" in all_of_them["state"][0]
    # As a pickle of before that has more than is taken.
    both[0].__setstate__(copy.deepcopy(all_of_them))
    assert "slow_momentum" not in both[0].state_dict()["state"][0]


def test_parameters_of_mixed_types_in_one_group() -> None:
    """Each as if it were alone."""
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


def test_hooks_of_steps_are_called_in_order() -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = LearnedOptimizer([parameter], STEPS)
    told = []
    optimizer.register_step_pre_hook(lambda *_: told.append("before"))
    optimizer.register_step_post_hook(lambda *_: told.append("after"))
    optimizer.step(lambda: told.append("closure"))
    assert told == ["before", "closure", "after"]


@pytest.mark.parametrize("kind", ["tensor", "iterator", "named"])
def test_parameters_may_come_in_any_form(kind: str) -> None:
    model = _network()
    given = {
        "tensor": [torch.ones(2, requires_grad=True)],
        "iterator": iter(model.parameters()),
        "named": model.named_parameters(),
    }[kind]
    optimizer = LearnedOptimizer(given, STEPS)
    if kind == "named":
        names = optimizer.state_dict()["param_groups"][0]["param_names"]
        assert names == [name for name, _ in model.named_parameters()]


def test_frozen_parameters_stay_and_what_they_had_is_kept() -> None:
    model = _network()
    model[0].requires_grad_(False)
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    before = _values(model)
    _train(model, optimizer, 3)
    moved = [not torch.equal(a, b) for a, b in zip(before, _values(model), strict=True)]
    assert moved == [False, False] + [True] * (len(moved) - 2)


# ---- embeddings ------------------------------------------------------------------------------


class _Reader(nn.Module):
    """Every way to hold an embedding, the head's weight tied to one of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(7, 4)
        self.bag = nn.EmbeddingBag(5, 4)
        self.frozen = nn.Embedding(3, 4).requires_grad_(False)
        self.position_weights = nn.Parameter(torch.zeros(6, 4))
        self.cls_token = nn.Parameter(torch.zeros(1, 4))
        self.mixing = nn.Parameter(torch.eye(4))
        self.token_mixing = nn.Parameter(torch.eye(4))
        self.composition = nn.Parameter(torch.eye(4))
        self.patch_embed = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.table.weight


def test_a_module_tells_which_parameters_are_embeddings() -> None:
    rest, tables = parameter_groups(_Reader())
    assert (rest["embedding"], tables["embedding"]) == (False, True)
    names = [[name for name, _ in group["params"]] for group in (rest, tables)]
    assert sorted(names[0]) == [
        "composition", "head.bias", "mixing", "patch_embed.bias", "patch_embed.weight",
        "token_mixing",
    ]  # fmt: skip
    assert sorted(names[1]) == ["bag.weight", "cls_token", "position_weights", "table.weight"]


def test_a_module_without_embeddings_is_one_group_and_without_parameters_none() -> None:
    model = _network()
    by_module, plain = LearnedOptimizer(model, STEPS), LearnedOptimizer(model.parameters(), STEPS)
    assert [g["embedding"] for g in by_module.param_groups] == [False]
    assert by_module.param_groups[0]["params"] == plain.param_groups[0]["params"]
    with pytest.raises(ValueError, match="Tanh has no parameters that require a gradient"):
        LearnedOptimizer(nn.Tanh(), STEPS)


def test_tables_of_embeddings_are_no_matrices() -> None:
    """At the starting point they move as vectors do; a matrix moves orthogonally."""
    gradient = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    moves = {}
    for name, shape, embedding in [("table", (6, 4), True), ("vector", (24,), False),
                                   ("matrix", (6, 4), False)]:  # fmt: skip
        parameter = nn.Parameter(torch.zeros(shape))
        parameter.grad = gradient.view(shape)
        group = {"params": [parameter], "embedding": embedding}
        LearnedOptimizer([group], STEPS, weights=initial_weights()).step()
        moves[name] = parameter.detach().view(6, 4)
    torch.testing.assert_close(moves["table"], moves["vector"], rtol=1e-6, atol=0)
    assert not torch.allclose(moves["matrix"] / moves["table"], torch.ones(()), rtol=0.5)
    spread = torch.linalg.svdvals(moves["matrix"])
    assert spread.min() > 0.5 * spread.max()


def test_tables_of_embeddings_have_a_rule_and_a_size_of_their_own() -> None:
    table, vector = nn.Parameter(torch.ones(6, 4)), nn.Parameter(torch.ones(4))
    table.grad, vector.grad = torch.ones(6, 4), torch.ones(4)
    weights = initial_weights()
    weights["step.log_size"][rule.EMBEDDING] += math.log(3.0)
    weights["rule.mix"][rule.EMBEDDING] *= -1
    groups = [{"params": [table], "embedding": True}, {"params": [vector]}]
    LearnedOptimizer(groups, STEPS, weights=weights).step()
    torch.testing.assert_close(table - 1, -3 * (vector - 1).expand(6, 4))


def test_a_state_saved_before_there_were_embeddings_is_loaded() -> None:
    model = _network()
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    _train(model, optimizer, 2)
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["embedding"]
    other = LearnedOptimizer(model.parameters(), STEPS)
    other.load_state_dict(saved)
    _train(model, other, 1)


def test_what_is_several_squares_high_is_made_orthogonal_square_by_square() -> None:
    generator = torch.Generator().manual_seed(0)
    tall = torch.randn(2, 12, 4, generator=generator)
    # One gate's gradients are far larger than the others'.
    tall[:, :4] *= 100
    whole = orthogonalised(tall)
    for rows in (slice(0, 4), slice(4, 8), slice(8, 12)):
        torch.testing.assert_close(whole[:, rows], orthogonalised(tall[:, rows]))
    odd = orthogonalised(tall[:, :11])
    assert (torch.linalg.svdvals(odd / 11**0.5) > 0.5).all()


@pytest.mark.parametrize("shape", [(130, 150), (260, 300), (600, 256), (512, 256)])
def test_large_matrices_become_orthogonal_too(shape: tuple[int, int]) -> None:
    """In bfloat16 where that is fast: singular values between 0.5 and 1.5, the same directions."""
    matrix = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    single, double = orthogonalised(matrix), orthogonalised(matrix.double())
    assert single.dtype == torch.float32
    cosine = nn.functional.cosine_similarity(single.flatten(), double.float().flatten(), dim=0)
    assert cosine > 0.999
    spread = torch.linalg.svdvals(single / max(shape) ** 0.5)
    assert (spread > 0.5 * spread.max()).all()


# ---- groups and schedulers -------------------------------------------------------------------


def test_groups_have_their_own_settings() -> None:
    model = _network()
    layers = [list(layer.parameters()) for layer in (model[0], model[2], model[4])]
    optimizer = LearnedOptimizer(
        [{"params": layers[0], "lr": 0.0}, {"params": layers[1], "num_steps": 5}], STEPS
    )
    optimizer.add_param_group({"params": layers[2], "weight_decay": 0.5})
    before = _values(model)
    _train(model, optimizer, 2)
    same = [torch.equal(a, b) for a, b in zip(before, _values(model), strict=True)]
    assert same == [True, True, False, False, True, True, False, False, True, True]
    assert [g["step"] for g in optimizer.param_groups] == [2, 2, 2]
    assert [g["num_steps"] for g in optimizer.param_groups] == [STEPS, 5, STEPS]


def test_learning_rate_schedulers_scale_the_step() -> None:
    models = [_network(torch.float64) for _ in range(2)]
    before = _values(models[0])
    moves = []
    for model, factor in zip(models, (1.0, 0.25), strict=True):
        optimizer = LearnedOptimizer(model.parameters(), STEPS)
        torch.optim.lr_scheduler.ConstantLR(optimizer, factor=factor, total_iters=9)
        _train(model, optimizer, 1)
        moves.append([b - a for a, b in zip(before, _values(model), strict=True)])
    for whole, quarter in zip(*moves, strict=True):
        torch.testing.assert_close(0.25 * whole, quarter)


@pytest.mark.parametrize("schedulers", INFO.scheduler_inputs[0])
def test_torchs_schedulers_run(schedulers) -> None:
    model = _network()
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    scheduler = schedulers(optimizer)
    for loss in _train(model, optimizer, 3):
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(loss)
        else:
            scheduler.step()


def test_weight_decay_shrinks_what_has_no_gradient_to_follow() -> None:
    parameter = nn.Parameter(torch.ones(4, 4))
    optimizer = LearnedOptimizer([parameter], STEPS, weight_decay=0.5)
    parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.all(parameter < 1)
    assert torch.all(parameter > 0.97)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 5), (5, 1), (4, 3), (4, 3, 2, 2), (0, 3)])
def test_any_shape_and_no_gradient_no_step(shape: tuple[int, ...]) -> None:
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


def test_gradient_scale_does_not_matter() -> None:
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


@pytest.mark.parametrize("shape", [(5,), (), (3, 4)])
def test_complex_parameters_move_as_pairs_of_real_ones(shape: tuple[int, ...]) -> None:
    """Each row's pairs side by side: vectors stay vectors."""
    start = torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    real = torch.view_as_real(start)
    pairs = nn.Parameter(real.flatten(-2).clone() if shape else real.clone())
    whole = nn.Parameter(start.clone())
    both = [LearnedOptimizer([p], STEPS) for p in (whole, pairs)]
    for _ in range(3):
        # Autograd, too, gives gradients that are conjugated only when looked at.
        whole.grad = (whole.detach() * (1 + 2j)).resolve_conj().conj()
        pairs.grad = torch.view_as_real(whole.grad.resolve_conj()).view_as(pairs).clone()
        for optimizer in both:
            optimizer.step()
    assert torch.equal(torch.view_as_real(whole.detach()).view_as(pairs), pairs.detach())


def test_memory_format_does_not_matter() -> None:
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


def test_grad_scaler_unscales_and_leaves_out_infinite_steps() -> None:
    model = _network()
    optimizer = LearnedOptimizer(model.parameters(), STEPS)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for infinite in (False, True):
        before = _values(model)
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(2, 6)).square().mean()).backward()
        if infinite:
            next(model.parameters()).grad.fill_(torch.inf)
        scaler.step(optimizer)
        scaler.update()
        assert _all_equal(before, _values(model)) is infinite
    assert optimizer.param_groups[0]["step"] == 1


def test_it_stays_stable_far_past_its_horizon() -> None:
    model = _network()
    optimizer = LearnedOptimizer(model.parameters(), 15)
    losses = _train(model, optimizer, 150)
    assert max(losses[15:]) < 1.1 * losses[14]
    assert optimizer.param_groups[0]["handover"] is None


def test_the_same_relative_step_at_any_width() -> None:
    """Outputs change alike in the first step, whether 32 or 512 wide (scaling by fan-in).

    The last layer starts as feature learning needs (mean square 1 / fan-in squared).
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


def test_steps_do_not_grow_with_what_they_made_of_the_parameters() -> None:
    """Steps in one direction add up as a sum does, not as a product: that is how runs blew up."""
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


def test_compiled_steps_equal_eager_ones() -> None:
    models = [_network() for _ in range(2)]
    for model, compiled in zip(models, (False, True), strict=True):
        optimizer = LearnedOptimizer(model.parameters(), STEPS)
        closure = _closure(model, optimizer)
        step = torch.compile(optimizer.step, backend="aot_eager") if compiled else optimizer.step
        for _ in range(3):
            closure()
            step()
    for one, two in zip(*map(_values, models), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


# ---- wrong arguments -------------------------------------------------------------------------


@pytest.mark.parametrize("error", INFO.optim_error_inputs_func("cpu", torch.float32))
def test_torchs_own_wrong_arguments(error) -> None:
    given = error.optimizer_error_input
    kwargs = {name: value for name, value in given.kwargs.items() if name == "num_steps"}
    assert error.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
    with pytest.raises(error.error_type, match=error.error_regex):
        LearnedOptimizer(given.params, **{"num_steps": 3, **kwargs})


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ({"num_steps": 0}, ValueError, "at least 1"),
        ({"num_steps": 1.5}, TypeError, "whole number"),
        ({"num_steps": True}, TypeError, "whole number"),
        ({"num_steps": 5, "weight_decay": -0.1}, ValueError, "weight_decay"),
        ({"num_steps": 5, "weight_decay": float("nan")}, ValueError, "weight_decay"),
        ({"num_steps": 5, "weights": {}}, WeightsError, "metahpo train optimizer"),
    ],
)
def test_wrong_arguments(wrong, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        LearnedOptimizer([nn.Parameter(torch.ones(2))], **wrong)


def test_a_wrong_group_is_not_added() -> None:
    optimizer = LearnedOptimizer([nn.Parameter(torch.ones(2))], 5)
    with pytest.raises(ValueError, match="lr"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": -1.0})
    assert len(optimizer.param_groups) == 1


def test_sparse_gradients_are_refused() -> None:
    embedding = nn.Embedding(5, 3, sparse=True)
    optimizer = LearnedOptimizer(embedding.parameters(), 5)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        optimizer.step()


def test_weights_round_trip_and_foreign_files(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    weights = initial_weights(3)
    save_weights(weights, path, seed="3")
    read = load_weights(path)
    assert all(torch.equal(read[name], weights[name]) for name in weights)
    save_weights({**weights, "rule.mix": weights["rule.mix"] * torch.nan}, path)
    with pytest.raises(WeightsError, match="not finite"):
        load_weights(path)
    save_weights({**weights, "step.log_floor": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=r"another version: step\.log_floor"):
        load_weights(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="no safetensors file"):
        load_weights(path)


# ---- guard -----------------------------------------------------------------------------------


def _reckless() -> dict[str, Tensor]:
    """Weights whose steps are a hundred and fifty times too long."""
    weights = initial_weights()
    return {**weights, "step.log_size": weights["step.log_size"] + 5.0}


def test_the_guard_hands_over_to_adamw_and_says_so_once() -> None:
    model = _network()
    optimizer = LearnedOptimizer(model.parameters(), 400, weights=_reckless())
    with pytest.warns(UserWarning, match="hands over to AdamW") as told:
        losses = _train(model, optimizer, 400)
    assert len(told) == 1
    assert optimizer.param_groups[0]["handover"] < 100
    worst = max(losses)
    assert losses[-1] < 0.2 * worst

    free = _network()
    unguarded = LearnedOptimizer(free.parameters(), 400, weights=_reckless(), guard=False)
    alone = _train(free, unguarded, 400)
    # Steps do not grow by themselves: alone it goes astray for as long as they are long.
    assert not sum(alone[100:]) < 10 * sum(losses[100:])


def test_groups_that_diverge_together_say_so_once() -> None:
    model = _network()
    groups = [{"params": [parameter]} for parameter in model.parameters()]
    optimizer = LearnedOptimizer(groups, 400, weights=_reckless())
    with pytest.warns(UserWarning, match="hands over to AdamW") as told:
        _train(model, optimizer, 100)
    assert len(told) == 1
    assert all(group["handover"] is not None for group in optimizer.param_groups)


def test_after_the_handover_it_is_adamw() -> None:
    """Long after it, with a gradient that stays the same: steps of AdamW's size against it."""
    parameter = nn.Parameter(torch.zeros(3, 2))
    optimizer = LearnedOptimizer([parameter], 10_000)
    optimizer.param_groups[0].update(handover=0, step=5_000)
    parameter.grad = torch.tensor([[1.0, -2.0], [3.0, 4.0], [5.0, -6.0]])
    optimizer.step()
    expected = -parameter.grad.sign() * parameter.detach().abs().mean()
    torch.testing.assert_close(parameter.detach(), expected)
    assert 3e-4 < parameter.detach().abs().mean() <= 1e-3


def test_the_guard_leaves_a_step_with_infinite_gradients_out() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = LearnedOptimizer([parameter], 20)
    parameter.grad = torch.tensor([1.0, torch.nan, 1.0])
    optimizer.step()
    assert torch.equal(parameter.detach(), torch.ones(3))
    parameter.grad = torch.ones(3)
    optimizer.step()
    assert torch.all(parameter < 1)


def test_gradients_that_stay_infinite_hand_over_without_a_loss() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = LearnedOptimizer([parameter], 20)
    parameter.grad = torch.full((3,), torch.nan)
    for _ in range(4):
        optimizer.step()
    with pytest.warns(UserWarning, match="hands over"):
        optimizer.step()
    optimizer.step()  # Warnings are errors: it says so once.


def test_groups_stand_and_fall_together() -> None:
    """A gradient that is wrong in one leaves out, and then hands over, all that are guarded."""
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    optimizer = LearnedOptimizer(model, 20)
    free = nn.Parameter(torch.ones(3))
    optimizer.add_param_group({"params": [("free", free)], "guard": False})
    before = [p.detach().clone() for p in model.parameters()]

    def step(wrong: float) -> None:
        model(torch.tensor([1, 2])).sum().backward()
        free.grad = torch.ones(3)
        model[0].weight.grad[1] *= wrong
        optimizer.step()
        optimizer.zero_grad()

    step(torch.nan)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    step(1.0)
    assert [group["step"] for group in optimizer.param_groups] == [1, 1, 2]
    for _ in range(4):
        step(torch.nan)
    with pytest.warns(UserWarning, match="hands over"):
        step(torch.nan)
    step(torch.nan)  # Warnings are errors: it says so once.
    assert [group["handover"] for group in optimizer.param_groups] == [1, 1, None]


@pytest.mark.parametrize("loss", [1e21, 1e39, 1e200, -1e30])
def test_one_very_large_loss_does_no_harm(loss: float) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = LearnedOptimizer([parameter], 60, guard=False)
    for step in range(40):
        parameter.grad = torch.ones(3)
        told = loss if step == 20 else 1.0
        optimizer.step(lambda told=told: torch.tensor(told, dtype=torch.float64))
    assert torch.isfinite(parameter).all()


def test_a_loss_that_stays_very_large_hands_over() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = LearnedOptimizer([parameter], 60)

    def step(loss: float) -> None:
        parameter.grad = torch.ones(3)
        optimizer.step(lambda: torch.tensor(loss, dtype=torch.float64))

    for _ in range(20):
        step(1.0)
    for _ in range(4):
        step(1e200)
    with pytest.warns(UserWarning, match="hands over"):
        step(1e200)
    before = parameter.detach().clone()
    step(1e200)
    assert torch.all(parameter < before)


def test_pytorchs_defaults_do_not_matter() -> None:
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


def test_sharded_parameters_are_refused() -> None:
    parameter = nn.Parameter(torch.ones(3))
    parameter.device_mesh = "cpu"
    parameter.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="sharded"):
        LearnedOptimizer([parameter], 20).step()


def test_the_guard_is_silent_on_noisy_and_negative_losses() -> None:
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.ones(3))
    optimizer = LearnedOptimizer([parameter], 200)
    parameter.grad = torch.ones(3)
    for step in range(200):
        noise = torch.randn((), generator=generator).item()
        optimizer.step(lambda step=step, noise=noise: torch.tensor(-0.1 * step + noise))
    assert optimizer.param_groups[0]["handover"] is None
