"""Wrong arguments of LearnedOptimizer."""

import pytest
import torch
from support.small_training import INFO
from torch import nn
from torch.testing._internal.common_optimizers import OptimizerErrorEnum

from metahpo.optim import LearnedOptimizer, WeightsError


@pytest.mark.parametrize("error", INFO.optim_error_inputs_func("cpu", torch.float32))
def test_the_arguments_that_torch_rejects_are_rejected(error) -> None:
    given = error.optimizer_error_input
    kwargs = {name: value for name, value in given.kwargs.items() if name == "num_steps"}
    assert error.error_on == OptimizerErrorEnum.CONSTRUCTION_ERROR
    with pytest.raises(error.error_type, match=error.error_regex):
        LearnedOptimizer(given.params, **{"num_steps": 3, **kwargs})


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"num_steps": 0}, ValueError, "at least 1"),
        ({"num_steps": 1.5}, TypeError, "must be an int"),
        ({"num_steps": True}, TypeError, "must be an int"),
        ({"num_steps": 5, "weight_decay": -0.1}, ValueError, "weight_decay"),
        ({"num_steps": 5, "weight_decay": float("nan")}, ValueError, "weight_decay"),
        ({"num_steps": 5, "weights": {}}, WeightsError, "metahpo train optimizer"),
    ],
)
def test_wrong_arguments_raise_an_error_that_names_them(
    wrong, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        LearnedOptimizer([nn.Parameter(torch.ones(2))], **wrong)


def test_a_group_with_a_wrong_option_is_not_added() -> None:
    optimizer = LearnedOptimizer([nn.Parameter(torch.ones(2))], 5)
    with pytest.raises(ValueError, match="lr"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": -1.0})
    assert len(optimizer.param_groups) == 1


def test_sparse_gradients_are_rejected() -> None:
    embedding = nn.Embedding(5, 3, sparse=True)
    optimizer = LearnedOptimizer(embedding.parameters(), 5)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        optimizer.step()


def test_sharded_parameters_are_rejected() -> None:
    parameter = nn.Parameter(torch.ones(3))
    parameter.device_mesh = "cpu"
    parameter.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="sharded"):
        LearnedOptimizer([parameter], 20).step()
