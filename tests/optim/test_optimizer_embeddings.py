"""Embeddings: how they are recognised, and how they move."""

import math

import pytest
import torch
from support.small_training import STEPS, small_network
from torch import nn

from metahpo.optim import LearnedOptimizer, initial_weights, parameter_groups, rule


class _Embeddings(nn.Module):
    """A module with every kind of embedding; one is tied to the weight of the head."""

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


def test_embeddings_of_a_module_are_recognised_by_module_type_and_name() -> None:
    rest, tables = parameter_groups(_Embeddings())
    assert (rest["embedding"], tables["embedding"]) == (False, True)
    names = [[name for name, _ in group["params"]] for group in (rest, tables)]
    assert sorted(names[0]) == [
        "composition", "head.bias", "mixing", "patch_embed.bias", "patch_embed.weight",
        "token_mixing",
    ]  # fmt: skip
    assert sorted(names[1]) == ["bag.weight", "cls_token", "position_weights", "table.weight"]


def test_a_module_without_embeddings_is_one_group_and_one_without_parameters_an_error() -> None:
    model = small_network()
    by_module, plain = LearnedOptimizer(model, STEPS), LearnedOptimizer(model.parameters(), STEPS)
    assert [g["embedding"] for g in by_module.param_groups] == [False]
    assert by_module.param_groups[0]["params"] == plain.param_groups[0]["params"]
    with pytest.raises(ValueError, match="Tanh has no parameters that require a gradient"):
        LearnedOptimizer(nn.Tanh(), STEPS)


def test_embeddings_move_like_vectors_and_matrices_orthogonally() -> None:
    """With the initial weights."""
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


def test_embeddings_have_their_own_mixture_and_step_size() -> None:
    table, vector = nn.Parameter(torch.ones(6, 4)), nn.Parameter(torch.ones(4))
    table.grad, vector.grad = torch.ones(6, 4), torch.ones(4)
    weights = initial_weights()
    weights["step.log_size"][rule.EMBEDDING] += math.log(3.0)
    weights["rule.mix"][rule.EMBEDDING] *= -1
    groups = [{"params": [table], "embedding": True}, {"params": [vector]}]
    LearnedOptimizer(groups, STEPS, weights=weights).step()
    torch.testing.assert_close(table - 1, -3 * (vector - 1).expand(6, 4))
