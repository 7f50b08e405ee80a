"""Trainings as users of optimizers report them; each docstring names the public report."""

import copy
import math

import pytest
import torch
from support.small_training import all_equal, small_network, train, values
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from metahpo.optim import LearnedOptimizer

STEPS = 40


def data(count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randn(count, 6, generator=torch.Generator().manual_seed(1))
    return inputs, inputs[:, :1] * inputs[:, 1:2]


def loss_of(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (model(inputs) - targets).square().mean()


def backward(model: nn.Module) -> float:
    model.zero_grad()
    loss = loss_of(model, *data())
    loss.backward()
    return loss.item()


def pair(**arguments) -> tuple[nn.Module, LearnedOptimizer]:
    model = small_network()
    return model, LearnedOptimizer(model, STEPS, **arguments)


# ---- loops ---------------------------------------------------------------------------------


def test_autocast_and_a_gradient_scaler_train_without_nan():
    """facebookresearch/schedule_free#8: the loss falls; infinite gradients skip a step."""
    model, optimizer = pair()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    first = backward(model)
    for step in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, *data())
        scaler.scale(loss).backward()
        if step == 3:
            before = values(model)
            next(model.parameters()).grad.fill_(math.inf)
        scaler.step(optimizer)
        scaler.update()
        if step == 3:
            assert all_equal(values(model), before)
    assert backward(model) < 0.7 * first


def test_accumulated_gradients_take_the_step_of_the_whole_batch():
    """huggingface/accelerate#641: four small batches between steps equal one large one."""
    (whole, one), (parts, four) = pair(), pair()
    inputs, targets = data()
    for _ in range(5):
        backward(whole)
        one.step()
        parts.zero_grad()
        for x, y in zip(inputs.chunk(4), targets.chunk(4), strict=True):
            (loss_of(parts, x, y) / 4).backward()
        four.step()
    for a, b in zip(values(whole), values(parts), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_clipping_the_gradients_does_not_change_the_steps():
    """pytorch/examples#1196: a factor common to all gradients and steps does not matter."""
    (free, one), (clipped, two) = pair(), pair()
    for _ in range(5):
        backward(free)
        one.step()
        backward(clipped)
        # One norm for all steps: a factor that is common to them.
        for parameter in clipped.parameters():
            parameter.grad *= 1e-3
        nn.utils.clip_grad_norm_(clipped.parameters(), 1.0)
        two.step()
    for a, b in zip(values(free), values(clipped), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)


def test_a_moving_average_of_the_model_follows_the_training():
    """pytorch/pytorch#84053: AveragedModel trains along; a copy of both goes on alike."""
    model, optimizer = pair()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    first = backward(average.module)
    for _ in range(STEPS):
        backward(model)
        optimizer.step()
        average.update_parameters(model)
    assert backward(average.module) < 0.7 * first
    other = copy.deepcopy((model, optimizer))
    assert train(model, optimizer, 2) == train(*other, 2)


def test_distributed_data_parallel_with_frozen_and_unused_parameters_trains(tmp_path):
    """pytorch/pytorch#45325: they stay, and the others train."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        model = small_network()
        model.register_parameter("unused", nn.Parameter(torch.ones(3)))
        model[0].weight.requires_grad_(False)
        parallel = DistributedDataParallel(model, find_unused_parameters=True)
        optimizer = LearnedOptimizer(parallel, STEPS, weight_decay=0.1)
        first = backward(parallel)
        frozen = model[0].weight.clone()
        for _ in range(STEPS):
            backward(parallel)
            optimizer.step()
        assert backward(parallel) < 0.7 * first
    finally:
        torch.distributed.destroy_process_group()
    assert torch.equal(model[0].weight, frozen)
    assert torch.equal(model.unused, torch.ones(3))


def test_unused_parameters_do_not_move_even_with_weight_decay():
    """pytorch/pytorch#28294: no gradient is something else than a gradient of zero."""
    model, optimizer = pair(weight_decay=0.5)
    for _ in range(3):
        backward(model)
        model[0].weight.grad = None
        before = values(model)
        optimizer.step()
        moved = [not torch.equal(a, b) for a, b in zip(before, values(model), strict=True)]
        assert moved == [False] + [True] * (len(moved) - 1)


@pytest.mark.filterwarnings("ignore:Training diverged")
def test_growing_targets_are_not_taken_for_divergence():
    """Metta-AI/metta#134, mended: no hand-over where rewards, and so the loss, grow."""
    model, optimizer = pair()
    inputs, targets = data()
    noise = torch.Generator().manual_seed(2)
    for step in range(STEPS):
        rewards = (1 + step / 5) * (targets + torch.randn(targets.shape, generator=noise))

        def closure(rewards=rewards):
            optimizer.zero_grad()
            loss = loss_of(model, inputs, rewards)
            loss.backward()
            return loss

        optimizer.step(closure)
    assert optimizer.param_groups[0]["handover"] is None


@pytest.mark.slow
def test_a_compiled_step_updates_real_and_complex_parameters():
    """pytorch/pytorch#197094: `torch.compile(optimizer.step)` equals the eager step."""
    outcomes = []
    for compiled in (False, True):
        torch.manual_seed(0)
        parameters = [
            nn.Parameter(torch.randn(3, 2, dtype=t)) for t in (torch.float, torch.cfloat)
        ]
        optimizer = LearnedOptimizer(parameters, STEPS)
        step = torch.compile(optimizer.step, backend="eager") if compiled else optimizer.step
        for _ in range(2):
            for parameter in parameters:
                parameter.grad = torch.ones_like(parameter)
            step()
        outcomes.append([p.detach() for p in parameters])
    assert all_equal(*outcomes)


# ---- schedulers and groups -----------------------------------------------------------------


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda o: lr_scheduler.OneCycleLR(o, 1.0, total_steps=STEPS, cycle_momentum=False),
        lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, cycle_momentum=False),
    ],
)
def test_cyclic_schedulers_run_without_a_momentum_to_cycle(scheduler):
    """pytorch/pytorch#19003: OneCycleLR and CyclicLR run with `cycle_momentum=False`."""
    model, optimizer = pair()
    scheduler = scheduler(optimizer)
    first = backward(model)
    for _ in range(STEPS):
        backward(model)
        optimizer.step()
        scheduler.step()
    assert backward(model) < first


def test_cycling_the_momentum_is_an_error_that_names_the_option():
    """warner-benjamin/optimi#14: the error is raised at once and says `cycle_momentum`."""
    with pytest.raises(ValueError, match="cycle_momentum"):
        lr_scheduler.OneCycleLR(pair()[1], 1.0, total_steps=STEPS)


def test_layers_that_are_unfrozen_later_train():
    """pytorch/pytorch#53712: a group added in the middle of the training has a state as well."""
    model = small_network()
    head, rest = [*model[-1].parameters()], [*model[:-1].parameters()]
    optimizer = LearnedOptimizer(head, STEPS)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    for _ in range(3):
        backward(model)
        optimizer.step()
        scheduler.step()
    optimizer.add_param_group({"params": rest, "num_steps": 20})
    before = values(model)
    backward(model)
    optimizer.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, values(model), strict=True))
    assert [group["step"] for group in optimizer.param_groups] == [4, 1]


@pytest.mark.filterwarnings("ignore:Training diverged")
def test_a_group_added_after_a_hand_over_is_handed_over_as_well():
    """huggingface/transformers#20029, mended: a group unfrozen later is like the others."""
    model = small_network()
    optimizer = LearnedOptimizer(model[-1].parameters(), STEPS)
    for _ in range(30):
        backward(model)
        for parameter in model[-1].parameters():
            parameter.grad.fill_(math.nan)
        optimizer.step()
    assert optimizer.param_groups[0]["handover"] is not None
    optimizer.add_param_group({"params": [*model[:-1].parameters()]})
    backward(model)
    optimizer.step()
    assert optimizer.param_groups[1]["handover"] is not None


def test_each_group_trains_as_if_it_had_an_optimizer_of_its_own():
    """konstmish/prodigy#20: two networks in two groups do not disturb each other."""
    networks = [small_network() for _ in range(4)]
    joint = LearnedOptimizer(
        [
            {"params": networks[0].parameters(), "num_steps": 20},
            {"params": networks[1].parameters(), "weight_decay": 0.3, "lr": 0.5},
        ],
        STEPS,
    )
    first = LearnedOptimizer(networks[2].parameters(), 20)
    second = LearnedOptimizer([{"params": networks[3].parameters(), "lr": 0.5}], STEPS, 0.3)
    for _ in range(6):
        for network in networks:
            backward(network)
        for optimizer in (joint, first, second):
            optimizer.step()
    assert all_equal(values(networks[0]), values(networks[2]))
    assert all_equal(values(networks[1]), values(networks[3]))


def test_one_argument_is_enough_for_convolutions_embeddings_norms_and_biases():
    """KellerJordan/Muon#22: nothing has to be sorted into matrices and the rest by hand."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.norm = nn.Embedding(10, 4), nn.LayerNorm(4)
            self.convolution, self.out = nn.Conv1d(4, 3, 3), nn.Linear(12, 1)

        def forward(self, tokens):
            features = self.norm(self.table(tokens)).transpose(1, 2)
            return self.out(self.convolution(features).flatten(1))

    torch.manual_seed(0)
    model, tokens = Network(), torch.randint(10, (64, 6))
    targets = (tokens[:, :1] > 4).float()
    optimizer = LearnedOptimizer(model, STEPS)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(model, tokens, targets)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


# ---- kinds of parameters -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3, 2)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64])
def test_parameters_of_any_kind_and_rank_converge(shape, dtype):
    """pytorch/pytorch#59998: complex parameters (and scalars, candle-org/candle#322) converge."""
    torch.manual_seed(0)
    goal = torch.randn(shape, dtype=dtype)
    parameter = nn.Parameter(goal + 0.5)
    optimizer = LearnedOptimizer([parameter], 100)
    for _ in range(100):
        optimizer.zero_grad()
        (parameter - goal).abs().square().sum().backward()
        optimizer.step()
    assert (parameter - goal).abs().max() < 0.1


def test_empty_parameters_do_not_keep_others_from_moving():
    """pytorch/pytorch#100701: the others move beside tensors without elements."""
    parameters = [nn.Parameter(torch.ones(shape)) for shape in ((1,), (0,), (2, 0), (1,), (3, 3))]
    optimizer = LearnedOptimizer(parameters, STEPS)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert all((parameter < 1).all() for parameter in parameters)


def test_sparse_gradients_are_an_error_that_says_what_to_do():
    """pytorch/pytorch#41966: an error in words instead of one from within."""
    table = nn.Embedding(5, 3, sparse=True)
    optimizer = LearnedOptimizer(table, STEPS)
    table(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(RuntimeError, match=r"sparse=False"):
        optimizer.step()


def test_the_default_dtype_of_the_process_may_be_double():
    """pytorch/pytorch#110940: it trains, and its state is double as well."""
    torch.set_default_dtype(torch.float64)
    try:
        model = small_network(torch.float64)
        optimizer = LearnedOptimizer(model, STEPS)
        losses = train(model, optimizer, STEPS)
    finally:
        torch.set_default_dtype(torch.float32)
    assert losses[-1] < 0.7 * losses[0]
    assert optimizer.state[model[0].weight]["momentum"].dtype is torch.float64


# ---- states --------------------------------------------------------------------------------


def test_a_state_saved_before_the_first_step_loads():
    """pytorch/pytorch#2647: no KeyError in the step after it."""
    (model, optimizer), (other, loaded) = pair(), pair()
    loaded.load_state_dict(optimizer.state_dict())
    assert train(model, optimizer, 3) == train(other, loaded, 3)


def test_a_state_continues_with_parameters_of_another_precision():
    """pytorch/pytorch#2830, mended: loading casts the state to their precision."""
    model, optimizer = pair()
    losses = train(model, optimizer, 5)
    double = copy.deepcopy(model).double()
    resumed = LearnedOptimizer(double, STEPS)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert train(double, resumed, 5)[-1] < losses[0]
    assert resumed.param_groups[0]["step"] == 10


@pytest.mark.parametrize("rule", [torch.optim.AdamW, torch.optim.SGD])
def test_the_state_of_another_optimizer_is_refused_when_loading(rule):
    """ruotianluo/self-critical.pytorch#232, mended: an error when loading, no KeyError later."""
    model, optimizer = pair()
    other = rule(model.parameters())
    backward(model)
    other.step()
    with pytest.raises(ValueError, match="state_dict"):
        optimizer.load_state_dict(other.state_dict())
