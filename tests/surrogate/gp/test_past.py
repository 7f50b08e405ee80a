"""Models of past tasks predict what their tasks showed, and nothing about what they lack."""

import numpy as np
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution
from scipy.stats import spearmanr

from metahpo.surrogate.features import FeatureMap
from metahpo.surrogate.gp.past_models import PastModels
from metahpo.tasks.alignment import AlignedTask, align, thinned
from metahpo.tasks.space import Condition, Space
from metahpo.tasks.task import Task, Trial

UNIT = FloatDistribution(0, 1)
SPACE = Space({"x": UNIT, "y": UNIT, "c": CategoricalDistribution(["a", "b"])})
FEATURES = FeatureMap(SPACE)


def bowl(x: float, y: float):
    return lambda c: -((c["x"] - x) ** 2) - (c.get("y", y) - y) ** 2 - 0.3 * (c.get("c") == "b")


def past_task(function, space: Space = SPACE, n: int = 60, seed: int = 0) -> AlignedTask:
    """A past task in ``space``, aligned to SPACE."""
    configurations = space.decode(np.random.default_rng(seed).random((n, len(space))))
    trials = tuple(Trial(c, float(function(c))) for c in configurations)
    aligned = align(Task(f"task-{seed}", space, trials), SPACE)
    assert aligned is not None
    return aligned


def only_x(at: float, seed: int = 0) -> AlignedTask:
    return past_task(lambda c: -((c["x"] - at) ** 2), Space({"x": UNIT}), seed=seed)


def grid(n: int = 200, seed: int = 9) -> tuple[np.ndarray, list[dict]]:
    points = SPACE.snap(np.random.default_rng(seed).random((n, len(SPACE))))
    return points, SPACE.decode(points)


def ranks_alike(predictions: np.ndarray, function, configurations: list[dict]) -> float:
    return spearmanr(predictions, [function(c) for c in configurations]).statistic


# ---- what they predict ---------------------------------------------------------------------


def test_smooth_functions_are_interpolated():
    functions = [bowl(0.2, 0.8), bowl(0.5, 0.5), bowl(0.9, 0.1)]
    models = PastModels([past_task(f, seed=i) for i, f in enumerate(functions)], FEATURES)
    points, configurations = grid()
    predictions = models.predict(points)
    assert predictions.shape == (200, len(models)) == (200, 3)
    for column, function in zip(predictions.T, functions, strict=True):
        assert ranks_alike(column, function, configurations) > 0.9


def test_predictions_are_scores():
    task = past_task(bowl(0.2, 0.8))
    models = PastModels([task], FEATURES)
    scores = models.warps[0].scores(task.values)
    error = models.predict(task.points)[:, 0] - scores
    assert np.sqrt(np.mean(error**2)) < 0.3 * scores.std()


def test_location_and_unit_of_a_task_do_not_matter():
    first, second = past_task(bowl(0.2, 0.8)), past_task(bowl(0.5, 0.5), seed=1)
    scaled = AlignedTask(
        second.name, second.points, 1024 * second.values, second.shared, second.overlap
    )
    points, _ = grid()
    np.testing.assert_allclose(
        PastModels([first, scaled], FEATURES).predict(points),
        PastModels([first, second], FEATURES).predict(points),
        atol=1e-6,
    )


def test_predictions_of_points_are_those_of_their_features():
    models = PastModels([only_x(0.3), past_task(bowl(0.2, 0.8)), only_x(0.5, seed=2)], FEATURES)
    points, _ = grid(8)
    batched = FEATURES(torch.as_tensor(points)).reshape(2, 4, -1)
    np.testing.assert_array_equal(models(batched).numpy().reshape(8, 3), models.predict(points))


def test_the_gradient_agrees_with_finite_differences():
    models = PastModels([only_x(0.3), past_task(bowl(0.2, 0.8))], FEATURES)
    X = torch.as_tensor(FEATURES.array(grid(5)[0])).requires_grad_()
    assert torch.autograd.gradcheck(models, (X,), eps=1e-5, atol=1e-3)


def test_the_same_arguments_give_the_same_predictions():
    tasks, (points, _) = [past_task(bowl(0.2, 0.8), n=300)], grid()
    first, second = PastModels(tasks, FEATURES), PastModels(tasks, FEATURES)
    np.testing.assert_array_equal(first.predict(points), second.predict(points))


# ---- what a task lacks ---------------------------------------------------------------------


def test_a_hyperparameter_that_a_task_lacks_makes_no_difference():
    models = PastModels([past_task(bowl(0.2, 0.8)), only_x(0.3)], FEATURES)
    points = SPACE.snap(np.random.default_rng(0).random((50, 3)))
    moved = points.copy()
    moved[:, 1:] = SPACE.snap(np.random.default_rng(1).random((50, 3)))[:, 1:]
    before, after = (models.predict(p) for p in (points, moved))
    np.testing.assert_allclose(after[:, 1], before[:, 1])
    assert np.abs(after[:, 0] - before[:, 0]).max() > 0.5


def test_a_conditional_hyperparameter_that_a_task_lacks_makes_no_difference():
    space = Space(SPACE.distributions, {"y": Condition("c", choices=("a",))})
    models = PastModels([only_x(0.3)], FeatureMap(space))
    points = np.array([[0.4, 0.1, 0.25], [0.4, 0.9, 0.25], [0.4, np.nan, 0.75]])
    predictions = models.predict(points)[:, 0]
    np.testing.assert_allclose(predictions, predictions[0])


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (1, 3, 2, 0)])
def test_columns_keep_the_tasks_order(order):
    functions = [bowl(0.2, 0.8), bowl(0.4, 0.4), bowl(0.8, 0.5), bowl(0.9, 0.2)]
    # Tasks 1 and 3 have x alone, so that two groups interleave.
    tasks = [
        only_x((0.4, 0.9)[i // 2], seed=i) if i % 2 else past_task(functions[i], seed=i)
        for i in range(4)
    ]
    models = PastModels([tasks[i] for i in order], FEATURES)
    assert [task.name for task in models.tasks] == [f"task-{i}" for i in order]
    points, configurations = grid()
    for column, index in zip(models.predict(points).T, order, strict=True):
        own = (lambda c, x=(0.4, 0.9)[index // 2]: -((c["x"] - x) ** 2)) if index % 2 else None
        assert ranks_alike(column, own or functions[index], configurations) > 0.85


# ---- size ----------------------------------------------------------------------------------


def test_a_long_task_is_predicted_from_its_thinned_trials():
    task = thinned(past_task(bowl(0.2, 0.8), n=2000), np.random.default_rng(0))
    points, configurations = grid()
    predictions = PastModels([task], FEATURES).predict(points)[:, 0]
    assert ranks_alike(predictions, bowl(0.2, 0.8), configurations) > 0.9


def test_one_trial_and_repeated_trials_have_finite_predictions():
    one, repeated = past_task(bowl(0.2, 0.8), n=1), past_task(bowl(0.2, 0.8), n=2)
    rows = np.repeat([0, 1], 30)
    repeated = AlignedTask("r", repeated.points[rows], repeated.values[rows], one.shared, 1.0)
    points, _ = grid()
    assert np.isfinite(PastModels([one, repeated], FEATURES).predict(points)).all()
