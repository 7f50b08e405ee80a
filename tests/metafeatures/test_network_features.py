"""Meta-features of networks: layers, FLOPs, residual connections, families."""

import copy
import math

import pytest
import torch
from torch import nn

from metahpo.metafeatures import network_metafeatures


class Residual(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + self.norm(self.convolution(x))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        self.lstm = nn.LSTM(8, 16, num_layers=2, batch_first=True)
        self.out = nn.Linear(16, 2)

    def forward(self, tokens):
        return self.out(self.lstm(self.embedding(tokens))[0][:, -1])


class GCNConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, edges):
        return edges @ self.linear(x)


class Branching(nn.Module):
    """Cannot be traced symbolically."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return x + self.layer(x) if x.sum() > 0 else x


def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def transformer():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def unprefixed(features):
    return {name.removeprefix("network."): value for name, value in features.items()}


def test_sizes_and_flops_of_a_perceptron():
    features = unprefixed(network_metafeatures(mlp(), torch.zeros(5, 4)))
    assert features["parameters"] == 4 * 8 + 8 + 8 * 3 + 3
    assert features["depth"] == features["linear_layers"] == 2
    assert (features["width_min"], features["width_max"]) == (3, 8)
    assert features["dropout_rate"] == pytest.approx(0.2)
    # Of one example; a multiplication and an addition count as two.
    assert features["flops"] == 2 * (4 * 8 + 8 * 3)
    assert features["residual_connections"] == 0


@pytest.mark.parametrize(
    ("model", "example", "family"),
    [
        (mlp(), torch.zeros(2, 4), "mlp"),
        (
            nn.Sequential(Residual(), nn.Flatten(), nn.Linear(48, 2)),
            torch.zeros(2, 3, 4, 4),
            "cnn",
        ),
        (transformer(), torch.zeros(2, 5, 16), "transformer"),
        (Recurrent(), torch.zeros(2, 7, dtype=torch.long), "rnn"),
        (GCNConv(), (torch.zeros(2, 4), torch.eye(2)), "gnn"),
    ],
)
def test_the_architecture_family_is_recognised(model, example, family):
    features = unprefixed(network_metafeatures(model, example))
    families = {name for name in features if name.startswith("is_") and features[name] == 1.0}
    assert families == {f"is_{family}"}
    assert features["flops"] > 0


def test_flops_of_a_recurrent_network_count_every_step():
    features = unprefixed(network_metafeatures(Recurrent(), torch.zeros(3, 7, dtype=torch.long)))
    gates = 4 * 16 * (8 + 16) + 4 * 16 * (16 + 16)
    assert features["flops"] == 2 * (7 * gates + 16 * 2)
    assert features["depth"] == 3


@pytest.mark.parametrize("with_example", [True, False])
def test_residual_connections_are_counted_with_and_without_an_example(with_example):
    blocks = nn.Sequential(Residual(), Residual())
    image = torch.zeros(2, 3, 8, 8) if with_example else None
    assert unprefixed(network_metafeatures(blocks, image))["residual_connections"] == 2
    sequence = torch.zeros(2, 5, 16) if with_example else None
    assert unprefixed(network_metafeatures(transformer(), sequence))["residual_connections"] == 4


def test_residual_connections_of_untraceable_networks_need_an_example():
    assert math.isnan(unprefixed(network_metafeatures(Branching()))["residual_connections"])
    features = unprefixed(network_metafeatures(Branching(), torch.ones(1, 4)))
    assert features["residual_connections"] == 1


def test_an_example_that_does_not_fit_leaves_only_the_flops_unknown():
    features = unprefixed(network_metafeatures(mlp(), torch.zeros(5, 7)))
    assert math.isnan(features["flops"])
    assert features["parameters"] == 67


def test_empty_and_lazy_networks_have_the_same_names():
    reference = network_metafeatures(mlp(), torch.zeros(1, 4)).keys()
    for model in (None, nn.Module(), nn.LazyLinear(3), nn.Identity()):
        assert network_metafeatures(model).keys() == reference
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        network_metafeatures("resnet")  # type: ignore[arg-type]


def test_the_network_and_the_random_state_are_left_unchanged():
    model = nn.Sequential(Residual(), nn.Dropout(0.5))
    model[0].norm.eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    network_metafeatures(model, torch.randn(2, 3, 4, 4, generator=torch.Generator()))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == [True, True, True, False, True]
    assert torch.equal(state, torch.get_rng_state())
    assert torch.backends.mha.get_fastpath_enabled()
