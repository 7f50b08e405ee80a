"""The guard: skipped steps, and the hand-over to AdamW when training diverges."""

import pytest
import torch
from support.rising_losses import BLOW_UPS, SHIFTS, Training, bad_batch, perceptron, regression
from support.small_training import small_network, train
from torch import Tensor, nn

from metahpo.optim import LearnedOptimizer, initial_weights


def _diverging_weights() -> dict[str, Tensor]:
    """Weights whose steps are 150 times (e to the 5th) too long."""
    weights = initial_weights()
    return {**weights, "step.log_size": weights["step.log_size"] + 5.0}


def test_a_diverging_training_is_handed_over_to_adamw_with_one_warning() -> None:
    model = small_network()
    optimizer = LearnedOptimizer(model.parameters(), 400, weights=_diverging_weights())
    with pytest.warns(UserWarning, match="hands over to AdamW") as warned:
        losses = train(model, optimizer, 400)
    assert len(warned) == 1
    assert optimizer.param_groups[0]["handover"] < 100
    worst = max(losses)
    assert losses[-1] < 0.2 * worst

    free = small_network()
    unguarded = LearnedOptimizer(free.parameters(), 400, weights=_diverging_weights(), guard=False)
    alone = train(free, unguarded, 400)
    # Without the guard the losses stay more than ten times as high.
    assert not sum(alone[100:]) < 10 * sum(losses[100:])


def test_groups_that_diverge_together_give_one_warning() -> None:
    model = small_network()
    groups = [{"params": [parameter]} for parameter in model.parameters()]
    optimizer = LearnedOptimizer(groups, 400, weights=_diverging_weights())
    with pytest.warns(UserWarning, match="hands over to AdamW") as warned:
        train(model, optimizer, 100)
    assert len(warned) == 1
    assert all(group["handover"] is not None for group in optimizer.param_groups)


def test_after_the_handover_steps_are_those_of_adamw() -> None:
    """Long after the hand-over, the first step has the size of AdamW's against the gradient."""
    parameter = nn.Parameter(torch.zeros(3, 2))
    optimizer = LearnedOptimizer([parameter], 10_000)
    optimizer.param_groups[0].update(handover=0, step=5_000)
    parameter.grad = torch.tensor([[1.0, -2.0], [3.0, 4.0], [5.0, -6.0]])
    optimizer.step()
    expected = -parameter.grad.sign() * parameter.detach().abs().mean()
    torch.testing.assert_close(parameter.detach(), expected)
    assert 3e-4 < parameter.detach().abs().mean() <= 1e-3


def test_a_step_with_a_nan_gradient_is_skipped() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = LearnedOptimizer([parameter], 20)
    parameter.grad = torch.tensor([1.0, torch.nan, 1.0])
    optimizer.step()
    assert torch.equal(parameter.detach(), torch.ones(3))
    parameter.grad = torch.ones(3)
    optimizer.step()
    assert torch.all(parameter < 1)


def test_gradients_that_stay_nan_cause_a_handover_without_a_loss() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = LearnedOptimizer([parameter], 20)
    parameter.grad = torch.full((3,), torch.nan)
    for _ in range(4):
        optimizer.step()
    with pytest.warns(UserWarning, match="hands over"):
        optimizer.step()
    optimizer.step()  # A second warning would be an error.


def test_guarded_groups_skip_steps_and_hand_over_together() -> None:
    """A NaN in the gradient of one group affects the other guarded one, not the unguarded."""
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
    step(torch.nan)  # A second warning would be an error.
    assert [group["handover"] for group in optimizer.param_groups] == [1, 1, None]


@pytest.mark.parametrize("loss", [1e21, 1e39, 1e200, -1e30])
def test_one_very_large_loss_does_no_harm(loss: float) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = LearnedOptimizer([parameter], 60, guard=False)
    for step in range(40):
        parameter.grad = torch.ones(3)
        value = loss if step == 20 else 1.0
        optimizer.step(lambda value=value: torch.tensor(value, dtype=torch.float64))
    assert torch.isfinite(parameter).all()


def test_a_loss_that_stays_very_large_causes_a_handover() -> None:
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


def test_noisy_and_negative_losses_cause_no_handover() -> None:
    generator = torch.Generator().manual_seed(0)
    parameter = nn.Parameter(torch.ones(3))
    optimizer = LearnedOptimizer([parameter], 200)
    parameter.grad = torch.ones(3)
    for step in range(200):
        noise = torch.randn((), generator=generator).item()
        optimizer.step(lambda step=step, noise=noise: torch.tensor(-0.1 * step + noise))
    assert optimizer.param_groups[0]["handover"] is None


# ---- what blows up, and what shifts --------------------------------------------------------


@pytest.mark.parametrize("name", BLOW_UPS)
@pytest.mark.filterwarnings("ignore:Training diverged:UserWarning")
def test_a_training_that_blows_up_is_handed_over_within_twenty_steps(name: str) -> None:
    training = BLOW_UPS[name]
    handover, _ = training.run(num_steps=300, steps=training.late + 30)
    assert handover is not None
    assert training.late < handover <= training.late + 20


@pytest.mark.parametrize("num_steps", [40, 300])
@pytest.mark.parametrize("name", SHIFTS)
def test_a_loss_that_rises_because_the_objective_shifts_causes_no_handover(
    name: str, num_steps: int
) -> None:
    handover, losses = SHIFTS[name].run(num_steps, steps=120)
    assert handover is None
    assert num_steps < 300 or max(losses[10:]) > 1.5 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 8))
@pytest.mark.filterwarnings("ignore:Training diverged:UserWarning")
def test_blow_ups_and_shifts_are_told_apart_with_other_seeds(seed: int) -> None:
    for training in BLOW_UPS.values():
        handover, _ = training.run(300, training.late + 40, seed)
        assert handover is not None
    for training in SHIFTS.values():
        for num_steps in (40, 300, 1000):
            assert training.run(num_steps, 300, seed)[0] is None


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_a_bad_batch_is_skipped_and_does_no_harm(scale: float) -> None:
    def model() -> nn.Module:
        return perceptron(1, nn.ReLU)

    handover, losses = Training(bad_batch(scale), model).run(300)
    assert handover is None
    _, plain = Training(regression(), model).run(300)
    assert losses[50] > 1e6 * plain[50]
    assert sum(losses[-10:]) < 2 * sum(plain[-10:])
    _, harmed = Training(bad_batch(scale), model).run(300, guard=False)
    assert sum(harmed[-10:]) > 100 * sum(plain[-10:])


def test_gradients_of_another_scale_are_accepted_after_a_few_skipped_steps() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = LearnedOptimizer([parameter], 60)
    for step in range(40):
        parameter.grad = torch.full((3,), 1.0 if step < 20 else 1e6)
        optimizer.step()
    group = optimizer.param_groups[0]
    assert group["handover"] is None
    assert group["step"] == 35


def test_a_group_added_after_the_handover_is_handed_over() -> None:
    model = small_network()
    optimizer = LearnedOptimizer(model.parameters(), 400, weights=_diverging_weights())
    with pytest.warns(UserWarning, match="hands over to AdamW"):
        train(model, optimizer, 100)
    guarded, free = (nn.Parameter(torch.ones(2, 3)) for _ in range(2))
    optimizer.add_param_group({"params": [guarded]})
    optimizer.add_param_group({"params": [free], "guard": False})
    start = guarded.detach().clone()
    optimizer.param_groups[-2].update(step=100)
    guarded.grad = torch.ones(2, 3)
    optimizer.step()  # A second warning would be an error.
    assert [g["handover"] is None for g in optimizer.param_groups] == [False, False, True]
    # Of the rule that diverged, the step would be a hundred times longer.
    assert (guarded.detach() - start).abs().max() < 2e-3
