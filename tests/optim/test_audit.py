"""The audit of an optimizer: correct for known rules, and without effect on the training."""

import math

import pytest
import torch
from torch import Tensor, nn

from metahpo.optim import LearnedOptimizer
from metahpo.optim.audit import RULES, Audit


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 12) -> None:
    generator = torch.Generator().manual_seed(1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(torch.randn(8, 5, generator=generator)) - 1).square().mean()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)


def _audited(make, steps: int = 12, every: int = 1) -> Audit:
    model = _network()
    optimizer = make(model.parameters())
    with Audit(model.named_parameters(), optimizer, every) as audit:
        _train(model, optimizer, steps)
    return audit


@pytest.mark.parametrize(
    ("rule", "make"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, 0.01)),
        ("momentum", lambda p: torch.optim.SGD(p, 0.01, momentum=0.9)),
        ("adam", lambda p: torch.optim.Adam(p, 0.01)),
        ("sign", lambda p: torch.optim.Rprop(p, 0.01, etas=(0.5, 1.0 + 1e-9))),
    ],
)
def test_steps_of_a_known_rule_have_cosine_one_with_it(rule: str, make) -> None:
    first = [row for row in _audited(make).rows if rule != "sign" or row.step == 1]
    assert [getattr(row, rule) for row in first] == pytest.approx([1.0] * len(first), abs=1e-3)


def test_absolute_and_relative_step_sizes_are_root_mean_squares() -> None:
    parameter = nn.Parameter(torch.full((3, 4), 2.0))
    optimizer = torch.optim.SGD([parameter], 0.5)
    audit = Audit([("weight", parameter)], optimizer)
    with audit:
        parameter.grad = torch.full((3, 4), 0.4)
        optimizer.step()
    [row] = audit.rows
    assert (row.step, row.parameter) == (1, "weight")
    assert row.size == pytest.approx(0.2)
    assert row.relative == pytest.approx(0.1)
    assert [getattr(row, rule) for rule in RULES] == pytest.approx([1.0] * 4)


def test_only_every_nth_step_and_the_given_parameters_are_measured() -> None:
    audit = _audited(lambda p: torch.optim.SGD(p, 0.1), steps=10, every=4)
    assert sorted({row.step for row in audit.rows}) == [1, 5, 9]
    model = _network()
    optimizer = LearnedOptimizer(model.parameters(), 9)
    with Audit([("bias", model[0].bias)], optimizer) as alone:
        _train(model, optimizer, 2)
    _train(model, optimizer, 2)
    assert [row.parameter for row in alone.rows] == ["bias"] * 2, "steps outside the context"
    with alone:
        _train(model, optimizer, 1)
    assert len(alone.rows) == 3


def test_an_audit_does_not_change_the_training() -> None:
    models = [_network(), _network()]
    for model, audited in zip(models, (True, False), strict=True):
        optimizer = LearnedOptimizer(model.parameters(), 12)
        if audited:
            with Audit(model.named_parameters(), optimizer, 3):
                _train(model, optimizer)
        else:
            _train(model, optimizer)
    for one, two in zip(*(m.parameters() for m in models), strict=True):
        assert torch.equal(one, two)


def test_table_and_figure_have_every_parameter_of_the_learned_optimizer() -> None:
    audit = _audited(lambda p: LearnedOptimizer(p, 12))
    text = str(audit)
    assert [line.split()[0] for line in text.splitlines()[2:]] == [
        "0.weight", "0.bias", "2.weight", "2.bias",
    ]  # fmt: skip
    assert "nan" not in text
    figure = audit.figure()
    assert len(figure.data) == 4 * 5
    assert list(figure.data[0].x) == list(range(1, 13))
    assert list(figure.data[0].y) == [r.relative for r in audit.rows if r.parameter == "0.weight"]


def test_cosines_with_a_zero_step_or_gradient_are_nan() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.SGD([parameter], 0.5)
    with Audit([("weight", parameter)], optimizer) as audit:
        optimizer.step()  # No gradient, so no row.
        parameter.grad = torch.zeros(3)
        optimizer.step()
    [row] = audit.rows
    assert row.size == 0
    assert math.isnan(row.relative)
    assert math.isnan(row.adam)
    assert "nan" in str(audit)


def test_wrong_arguments_and_audits_without_a_step_are_errors() -> None:
    model = _network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="every"):
        Audit(model.named_parameters(), optimizer, 0)
    with pytest.raises(ValueError, match="contains no parameter of this optimizer"):
        Audit(_network().named_parameters(), optimizer)
    with pytest.raises(ValueError, match="no step was measured"):
        Audit(model.named_parameters(), optimizer).figure()
    assert str(Audit(model.named_parameters(), optimizer)) == "no step was measured"
