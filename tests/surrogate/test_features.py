"""Features of points agree with a plain reference, and are constant where nothing is known."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo.surrogate.features import MOST_ONE_HOT, ONE_HOT_SCALE, FeatureMap
from metahpo.tasks.alignment import AlignedTask
from metahpo.tasks.space import Condition, Space

# The time a case takes says nothing on a busy machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

OPTIMIZER = CategoricalDistribution(["sgd", "adam"])
NESTED = Space(
    {
        "nesterov": CategoricalDistribution([True, False]),
        "damping": FloatDistribution(0, 1),
        "optimizer": OPTIMIZER,
    },
    {
        # The child stands before its parent, and its parent's parent comes last.
        "damping": Condition("nesterov", choices=(True,)),
        "nesterov": Condition("optimizer", choices=("sgd",)),
    },
)
MIXED = Space(
    {
        "lr": FloatDistribution(1e-5, 1.0, log=True),
        "act": CategoricalDistribution(["relu", "gelu", None]),
        "momentum": FloatDistribution(0, 1),
        "layers": IntDistribution(1, 4),
        "only": CategoricalDistribution(["one"]),
        "optimizer": OPTIMIZER,
    },
    {
        "momentum": Condition("optimizer", choices=("sgd",)),
        "act": Condition("layers", at_least=2),
    },
)
SPACES = [MIXED, NESTED, Space({"x": FloatDistribution(0, 1)}), Space({"c": OPTIMIZER})]


def plain_features(space: Space, point: list[float]) -> list[float]:
    """One feature after another, one point at a time."""
    features: list[float] = []
    for name, position, levels in zip(space.names, point, space.levels, strict=True):
        active = not math.isnan(position)
        if not isinstance(space.distributions[name], CategoricalDistribution):
            features.append(position if active else 0.5)
            continue
        (value,) = space.decode(np.array([point])) if active else ({},)
        choices: tuple[Any, ...] = space.distributions[name].choices
        chosen = choices.index(value[name]) if active else None
        features += [math.sqrt(0.5) if i == chosen else 0.0 for i in range(levels)]
    conditional = [n for n in space.names if n in space.conditions]
    features += [0.0 if math.isnan(point[space.names.index(n)]) else 1.0 for n in conditional]
    return features


@st.composite
def spaces_with_points(draw: st.DrawFn) -> tuple[Space, np.ndarray]:
    space = draw(st.sampled_from(SPACES))
    position = st.floats(0, 1) | st.just(math.nan)
    row = st.lists(position, min_size=len(space), max_size=len(space))
    return space, np.array(draw(st.lists(row, min_size=1, max_size=4)))


def drawn(space: Space, n: int, seed: int = 0) -> np.ndarray:
    points = np.random.default_rng(seed).random((n, len(space)))
    return space.activate(space.snap(points))


# ---- what the features are -----------------------------------------------------------------


@given(spaces_with_points())
def test_features_agree_with_a_plain_reference(given_points):
    space, points = given_points
    features = FeatureMap(space)
    expected = np.array([plain_features(space, row) for row in points.tolist()])
    np.testing.assert_allclose(features.array(points), expected, rtol=1e-12)
    assert expected.shape == (len(points), len(features.owner))


@given(spaces_with_points())
def test_features_have_no_nan(given_points):
    space, points = given_points
    features = FeatureMap(space).array(points)
    assert features.shape == (len(points), len(FeatureMap(space).owner))
    assert np.isfinite(features).all()


def test_categories_lie_one_range_apart():
    space = Space({"c": CategoricalDistribution(["a", "b", "c"])})
    first, second = FeatureMap(space).array(space.encode([{"c": "a"}, {"c": "c"}]))
    assert np.linalg.norm(first - second) == pytest.approx(1.0)
    assert first.max() == ONE_HOT_SCALE


def test_activity_is_a_feature_of_its_own():
    features = FeatureMap(NESTED)
    assert features.owner == (0, 0, 1, 2, 2, 3, 4)
    inactive = features.array(NESTED.encode([{"optimizer": "adam"}]))
    np.testing.assert_allclose(inactive, [[0, 0, 0.5, 0, ONE_HOT_SCALE, 0, 0]])


def test_owners_are_the_hyperparameters_and_then_the_activities():
    # lr; three choices; momentum; layers; one choice; two choices; activity of act and momentum.
    assert FeatureMap(MIXED).owner == (0, 1, 1, 1, 2, 3, 4, 5, 5, 6, 7)


def test_positions_beyond_the_bounds_stay_there():
    space = Space({"x": FloatDistribution(0, 1), "n": IntDistribution(1, 4)})
    points = np.array([[-0.5, 1.5], [1.25, -0.25]])
    np.testing.assert_array_equal(FeatureMap(space).array(points), points)


def test_a_space_without_hyperparameters_has_no_features():
    features = FeatureMap(Space({}))
    assert features.owner == ()
    assert features.array(np.empty((3, 0))).shape == (3, 0)
    assert features.constant.shape == (0,)


@pytest.mark.parametrize("shape", [(), (1,), (4, 1), (2, 3, 4)])
def test_any_batch_shape_is_taken(shape):
    features, points = FeatureMap(MIXED), torch.from_numpy(drawn(MIXED, math.prod(shape)))
    batched = features(points.view(*shape, len(MIXED)))
    assert batched.shape == (*shape, len(features.owner))
    torch.testing.assert_close(batched.view(-1, len(features.owner)), features(points))


# ---- gradients -----------------------------------------------------------------------------


def test_gradients_reach_active_numbers_and_nothing_else():
    points = torch.from_numpy(drawn(MIXED, 20)).requires_grad_()
    features = FeatureMap(MIXED)
    numbers = [i for i, categorical in enumerate(MIXED.is_categorical) if not categorical]
    (gradient,) = torch.autograd.grad(features(points).sum(), points)
    expected = torch.zeros_like(points)
    expected[:, numbers] = 1.0
    expected[points.isnan()] = 0.0
    assert points.isnan().any()
    torch.testing.assert_close(gradient, expected)


def test_gradients_agree_with_finite_differences():
    # Away from the borders between choices, where a feature jumps.
    points = torch.from_numpy(np.nan_to_num(drawn(MIXED, 5), nan=0.5)).requires_grad_()
    assert torch.autograd.gradcheck(FeatureMap(MIXED), (points,))


# ---- past tasks ----------------------------------------------------------------------------


def past_task(points: np.ndarray) -> AlignedTask:
    known = ~np.isnan(points).all(axis=0)
    return AlignedTask("past", points, np.zeros(len(points)), known, 1.0)


def test_features_of_a_task_that_has_every_hyperparameter_are_those_of_its_points():
    points, features = drawn(MIXED, 30), FeatureMap(MIXED)
    task = past_task(points)
    np.testing.assert_array_equal(features.of_task(task), features.array(points))
    assert features.shared_by(task).all()


@pytest.mark.parametrize("lacking", range(len(MIXED)))
def test_features_of_a_hyperparameter_that_a_task_lacks_are_constant(lacking):
    points, features = drawn(MIXED, 30), FeatureMap(MIXED)
    points[:, lacking] = np.nan
    found, shared = features.of_task(past_task(points)), features.shared_by(past_task(points))
    conditional = [i for i, name in enumerate(MIXED.names) if name in MIXED.conditions]
    owners = [o if o < len(MIXED) else conditional[o - len(MIXED)] for o in features.owner]
    np.testing.assert_array_equal(shared, np.array(owners) != lacking)
    np.testing.assert_array_equal(found[:, shared], features.array(points)[:, shared])
    np.testing.assert_array_equal(
        found[:, ~shared], np.broadcast_to(features.constant[~shared], found[:, ~shared].shape)
    )


def test_the_constant_lies_between_active_and_inactive():
    # Numbers and activities halfway; no choice is chosen.
    expected = [0.5, 0, 0, 0, 0.5, 0.5, 0, 0, 0, 0.5, 0.5]
    np.testing.assert_array_equal(FeatureMap(MIXED).constant, expected)


def test_many_choices_lie_about_one_range_apart_in_few_features():
    count = 5000
    space = Space(
        {"x": FloatDistribution(0, 1), "c": CategoricalDistribution(range(count)), "d": OPTIMIZER},
        {"c": Condition("d", choices=("sgd",))},
    )
    features = FeatureMap(space)
    points = np.array([[0.5, (i + 0.5) / count, 0.25] for i in range(400)] + [[0.5, np.nan, 0.75]])
    X = features.array(points)
    assert len(features.owner) == X.shape[1] == 1 + MOST_ONE_HOT + 2 + 1
    squares = np.square(X[:400, None] - X[None, :400]).sum(-1)
    others = squares[np.triu_indices(400, 1)]
    # Four standard deviations of a mean of random signs, and of the farthest of 80,000 pairs six.
    assert abs(others.mean() - 1.0) < 0.01
    assert abs(others - 1.0).max() < 6 / math.sqrt(MOST_ONE_HOT)
    assert (np.diag(squares) == 0).all()
    # One without a choice: half a range off, as one-hot, and the activity.
    own = np.square(X[:400, 1 : 1 + MOST_ONE_HOT] - X[400, 1 : 1 + MOST_ONE_HOT]).sum(-1)
    np.testing.assert_allclose(own, 0.5)
    np.testing.assert_array_equal(FeatureMap(space).array(points), X)


def test_features_of_many_choices_are_differentiable_in_the_numbers():
    space = Space({"x": FloatDistribution(0, 1), "c": CategoricalDistribution(range(500))})
    points = torch.tensor([[0.3, 0.3], [0.4, 0.9]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(FeatureMap(space)(points).square().sum(), points)
    torch.testing.assert_close(gradient, torch.tensor([[0.6, 0.0], [0.8, 0.0]]).double())
