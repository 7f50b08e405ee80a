"""What every surrogate owes the policy: a suite for each registered family and for an example."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats import spearmanr
from support.forest_surrogate import ForestFamily

from metahpo.settings import DEFAULT_SETTINGS, Effort, TrustSettings
from metahpo.suggest.decision import Source
from metahpo.suggest.policy import suggest
from metahpo.surrogate import registry
from metahpo.surrogate.aligned_history import AlignedHistory
from metahpo.surrogate.contract import Improvement, Surrogate, SurrogateFamily
from metahpo.surrogate.gp.gp_family import GaussianFamily
from metahpo.surrogate.networks.network_file import WeightsError
from metahpo.surrogate.registry import (
    DEFAULT,
    checked_surrogate,
    register_surrogate,
    surrogate_family,
    surrogate_names,
)
from metahpo.surrogate.study_arrays import StudyArrays, study_arrays
from metahpo.tasks.alignment import align
from metahpo.tasks.space import Condition, Space
from metahpo.tasks.task import Task, Trial

SETTINGS = DEFAULT_SETTINGS
# Names that the pretrained network was trained on, and one that it was not.
MIXED = Space(
    {
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "batch_size": IntDistribution(16, 512, log=True),
        "momentum": FloatDistribution(0.1, 0.99),
        "weight_decay": FloatDistribution(1e-5, 1e-1),
        "num_layers": IntDistribution(1, 5),
        "max_units": IntDistribution(64, 1024, log=True),
        "max_dropout": FloatDistribution(0, 1),
        "normalisation": CategoricalDistribution(["batch", "layer", None]),
    }
)
CONDITIONAL = Space(
    {
        "lr": FloatDistribution(1e-5, 1, log=True),
        "optimizer": CategoricalDistribution(["adam", "sgd", "lion"]),
        "momentum": FloatDistribution(0, 1),
        "layers": IntDistribution(1, 4),
        "width_3": IntDistribution(1, 64),
    },
    {
        "momentum": Condition("optimizer", choices=("sgd",)),
        "width_3": Condition("layers", at_least=3),
    },
)
SPACES = {"mixed": MIXED, "conditional": CONDITIONAL}
# The network leaves simple studies to Gaussian processes, unless it is not weighed against them.
UNWEIGHED = replace(SETTINGS, trust=TrustSettings(weigh=False, check_tolerance=1.0))
FAMILIES = [*surrogate_names(), "network alone", "forest"]
TRIALS, PAST_TASKS = 12, 3


def family_named(name: str) -> SurrogateFamily:
    if name == "forest":
        return ForestFamily()
    return surrogate_family(DEFAULT if name == "network alone" else name)


def fit(
    family: str, study: StudyArrays, history: AlignedHistory, *, transfer: bool = True
) -> Surrogate:
    settings = UNWEIGHED if family == "network alone" else SETTINGS
    settings = replace(settings, transfer=transfer)
    return family_named(family).fit(study, history, settings)


def drawn(space: Space, count: int, seed: int) -> np.ndarray:
    points = np.random.default_rng(seed).random((count, len(space)))
    return space.activate(space.snap(points))


def task(space: Space, count: int, seed: int, optimum: float = 0.4) -> Task:
    """A bowl, in a unit of its own."""
    points = drawn(space, count, seed)
    gaps = np.nan_to_num(points, nan=0.5) - optimum
    values = 80.0 - 20.0 * (gaps**2).sum(axis=1)
    trials = map(Trial, space.decode(points), values.tolist())
    return Task(f"task-{seed}", space, tuple(trials))


def study(space: Space, count: int = TRIALS) -> StudyArrays:
    return study_arrays(task(space, count, seed=1), space)


def history(space: Space, count: int = PAST_TASKS) -> AlignedHistory:
    """Past bowls nearby; a new object, so that nothing is kept from other tests."""
    past = [task(space, 25, 10 + i, 0.4 + 0.05 * (i - 1)) for i in range(count)]
    aligned = [a for a in (align(each, space) for each in past) if a is not None]
    return AlignedHistory(
        space, tuple(aligned), np.full(count, 1 / count) if count else np.empty(0)
    )


@cache
def fitted(family: str, space: str, past_tasks: int) -> Surrogate:
    chosen = SPACES[space]
    return fit(family, study(chosen), history(chosen, past_tasks))


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture(params=SPACES)
def space_name(request) -> str:
    return request.param


@pytest.fixture(params=[0, PAST_TASKS], ids=["without history", "with history"])
def past_tasks(request) -> int:
    return request.param


@pytest.fixture
def space(space_name) -> Space:
    return SPACES[space_name]


@pytest.fixture
def surrogate(family, space_name, past_tasks) -> Surrogate:
    return fitted(family, space_name, past_tasks)


def improvement(surrogate: Surrogate, points: np.ndarray) -> Improvement:
    with torch.no_grad():
        return surrogate.improvement(torch.from_numpy(points))


def assert_finite(surrogate: Surrogate, points: np.ndarray) -> None:
    found = improvement(surrogate, points)
    assert bool(found.log_expected.isfinite().all())
    assert bool(((found.probability >= 0) & (found.probability <= 1)).all())
    predicted = surrogate.predict(points)
    assert predicted is None or np.isfinite(predicted).all()


def assert_same(one: Surrogate, other: Surrogate, points: np.ndarray) -> None:
    torch.testing.assert_close(
        improvement(one, points), improvement(other, points), rtol=0, atol=0
    )
    np.testing.assert_array_equal(one.predict(points), other.predict(points))
    np.testing.assert_array_equal(one.log_densities, other.log_densities)


# ---- improvement ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3)])
def test_improvements_have_the_shape_of_the_batch_and_are_finite(surrogate, space, shape):
    points = drawn(space, math.prod(shape), seed=2).reshape(*shape, -1)
    found = improvement(surrogate, points)
    for values in found:
        assert values.shape == shape
        assert values.dtype == torch.float64
        assert bool(values.isfinite().all())


def test_probabilities_lie_between_zero_and_one(surrogate, space):
    probability = improvement(surrogate, drawn(space, 200, seed=2)).probability
    assert bool(((probability >= 0) & (probability <= 1)).all())


def test_points_do_not_depend_on_others_of_their_batch(surrogate, space):
    points = drawn(space, 20, seed=2)
    together, alone = improvement(surrogate, points), improvement(surrogate, points[4:5])
    torch.testing.assert_close(
        together.log_expected[4:5], alone.log_expected, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(together.probability[4:5], alone.probability, rtol=1e-4, atol=1e-5)


def gradient_at(surrogate: Surrogate, points: np.ndarray) -> torch.Tensor:
    X = torch.from_numpy(points).requires_grad_()
    total = surrogate.improvement(X).log_expected.sum()
    # A surrogate without gradients builds no graph.
    return torch.autograd.grad(total, X)[0] if total.requires_grad else torch.zeros_like(X)


def test_gradients_are_finite_and_reach_only_active_numbers(surrogate, space):
    points = drawn(space, 20, seed=2)
    gradient = gradient_at(surrogate, points)
    assert bool(gradient.isfinite().all())
    categorical = torch.tensor(space.is_categorical)
    assert bool((gradient[:, categorical] == 0).all())
    assert bool((gradient[torch.from_numpy(np.isnan(points))] == 0).all())


def test_a_small_step_along_the_gradient_does_not_make_it_worse(surrogate, space):
    points = drawn(space, 50, seed=2)
    gradient = gradient_at(surrogate, points).numpy()
    largest = np.abs(gradient).max(axis=1, keepdims=True)
    ahead = points + 1e-5 * gradient / np.maximum(largest, 1e-12)
    before, after = (improvement(surrogate, at).log_expected for at in (points, ahead))
    # The network computes in float32.
    assert bool((after >= before - 1e-4).all())


# ---- predictions ---------------------------------------------------------------------------


def test_predictions_are_a_mean_and_a_deviation_for_each_point(surrogate, space):
    predicted = surrogate.predict(drawn(space, 9, seed=2))
    assert predicted is not None
    mean, deviation = predicted
    assert mean.shape == deviation.shape == (9,)
    assert np.isfinite(predicted).all()
    assert (deviation >= 0).all()


def test_predictions_rank_the_trials_as_their_values_do(surrogate, space):
    arrays = study(space)
    predicted = surrogate.predict(arrays.points)
    assert predicted is not None
    assert spearmanr(predicted[0], arrays.values).statistic > 0.5


def test_densities_are_one_for_each_trial_and_finite_where_they_are_known(surrogate):
    densities = surrogate.log_densities
    assert densities.shape == (TRIALS,)
    assert not np.isinf(densities).any()


# ---- what a decision says of the history ---------------------------------------------------


def test_task_weights_are_one_for_each_past_task_or_none(surrogate, past_tasks):
    weights = surrogate.task_weights
    assert weights.shape in {(0,), (past_tasks,)}
    assert np.isfinite(weights).all()


def test_the_trust_is_a_share_where_there_is_any(surrogate):
    trust = surrogate.trust
    assert trust is None or 0.0 <= trust <= 1.0


def test_the_effort_is_an_effort(surrogate):
    assert isinstance(surrogate.effort, Effort)


# ---- pending trials ------------------------------------------------------------------------


def promising(surrogate: Surrogate, space: Space) -> np.ndarray:
    """The two of some points that are worth most."""
    points = drawn(space, 64, seed=3)
    return points[np.argsort(-improvement(surrogate, points).log_expected.numpy())[:2]]


def test_pending_trials_lower_the_expected_improvement_there(surrogate, space):
    pending = promising(surrogate, space)
    conditioned = surrogate.condition_on_pending(pending)
    before, after = (improvement(s, pending).log_expected for s in (surrogate, conditioned))
    assert bool((after < before - 0.1).all())
    assert_finite(conditioned, drawn(space, 20, seed=2))
    assert conditioned.log_densities.shape == surrogate.log_densities.shape
    assert conditioned.trust is None or 0.0 <= conditioned.trust <= 1.0


def test_conditioning_changes_nothing_in_the_original(surrogate, space):
    points = drawn(space, 20, seed=2)
    before = improvement(surrogate, points), surrogate.predict(points), surrogate.trust
    surrogate.condition_on_pending(promising(surrogate, space))
    torch.testing.assert_close(improvement(surrogate, points), before[0], rtol=0, atol=0)
    np.testing.assert_array_equal(surrogate.predict(points), before[1])
    assert surrogate.trust == before[2]


def test_without_pending_trials_nothing_changes(surrogate, space):
    points = drawn(space, 20, seed=2)
    assert_same(surrogate.condition_on_pending(points[:0]), surrogate, points)


# ---- what is to be improved on -------------------------------------------------------------


def test_improvements_can_be_relative_to_points_that_are_worse(surrogate, space):
    """Everywhere more is expected to improve on the worst of some points than on the best."""
    points = drawn(space, 40, seed=2)
    predicted = surrogate.predict(points)
    assert predicted is not None
    worst, best = points[[np.argmin(predicted[0])]], points[[np.argmax(predicted[0])]]
    over_worst, over_best, over_both = (
        improvement(surrogate.relative_to(bar), points)
        for bar in (worst, best, np.concatenate([worst, best]))
    )
    assert bool((over_worst.log_expected >= over_best.log_expected - 1e-6).all())
    assert bool((over_worst.probability >= over_best.probability - 1e-6).all())
    assert bool((over_worst.log_expected > over_best.log_expected).any())
    assert bool((over_both.probability <= over_worst.probability + 1e-6).all())
    assert_finite(surrogate.relative_to(best), points)


# ---- the family ----------------------------------------------------------------------------


def test_equal_arguments_give_equal_surrogates(surrogate, family, space, past_tasks):
    """With a history in which nothing is kept yet, as another worker or a restart has it."""
    again = fit(family, study(space), history(space, past_tasks))
    assert_same(again, surrogate, drawn(space, 20, seed=2))
    np.testing.assert_array_equal(again.task_weights, surrogate.task_weights)
    assert again.trust == surrogate.trust


def test_what_is_kept_with_a_history_serves_later_studies_alike(
    surrogate, family, space, past_tasks
):
    kept = history(space, past_tasks)
    fit(family, study(space, TRIALS - 3), kept)
    later = fit(family, study(space), kept)
    assert_same(later, surrogate, drawn(space, 20, seed=2))


def test_a_history_that_is_not_read_changes_nothing(family, space, space_name):
    unread = fit(family, study(space), history(space), transfer=False)
    assert_same(unread, fitted(family, space_name, 0), drawn(space, 20, seed=2))


def test_fitting_changes_neither_the_study_nor_the_history(family, space):
    arrays, past = study(space), history(space)
    points, values = arrays.points.copy(), arrays.values.copy()
    tasks = [(task.points.copy(), task.values.copy()) for task in past.tasks]
    fit(family, arrays, past).condition_on_pending(points[:2])
    np.testing.assert_array_equal(arrays.points, points)
    np.testing.assert_array_equal(arrays.values, values)
    for kept, (task_points, task_values) in zip(past.tasks, tasks, strict=True):
        np.testing.assert_array_equal(kept.points, task_points)
        np.testing.assert_array_equal(kept.values, task_values)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_trials_can_be_fitted(family, space, past_tasks, count):
    made = fit(family, study(space, count), history(space, past_tasks))
    assert made.log_densities.shape == (count,)
    assert_finite(made, drawn(space, 20, seed=2))


def test_an_informed_family_needs_no_trials(family, space, past_tasks):
    informed = family_named(family).is_informed(space, SETTINGS)
    assert isinstance(informed, bool)
    if informed:
        before = fit(family, study(space, 0), history(space, past_tasks))
        assert before.log_densities.shape == (0,)
        assert_finite(before, drawn(space, 20, seed=2))


def test_values_that_all_agree_can_be_fitted(family, space, past_tasks):
    flat = replace(study(space), values=np.full(TRIALS, 80.0))
    made = fit(family, flat, history(space, past_tasks))
    assert_finite(made, drawn(space, 20, seed=2))


def test_repeated_trials_with_different_values_can_be_fitted(family, space, past_tasks):
    arrays = study(space)
    repeated = replace(arrays, points=np.repeat(arrays.points[:4], 3, axis=0))
    made = fit(family, repeated, history(space, past_tasks))
    assert_finite(made, np.concatenate([repeated.points[:2], drawn(space, 20, seed=2)]))


# ---- the registry --------------------------------------------------------------------------


@pytest.fixture
def own_registry(monkeypatch):
    """What a test registers is forgotten afterwards."""
    monkeypatch.setattr(registry, "_families", dict(registry._families))


def test_the_default_comes_first():
    assert surrogate_names()[0] == DEFAULT
    assert "gp" in surrogate_names()


def test_a_name_stands_for_its_family():
    assert isinstance(surrogate_family("gp"), GaussianFamily)
    assert surrogate_family(DEFAULT) is surrogate_family(DEFAULT)


@pytest.mark.usefixtures("own_registry")
def test_a_registered_family_has_a_name():
    made = ForestFamily()
    register_surrogate("forest", lambda: made)
    assert surrogate_names()[-1] == "forest"
    assert surrogate_family("forest") is made
    assert checked_surrogate("forest") == "forest"


@pytest.mark.usefixtures("own_registry")
def test_a_name_is_registered_once():
    register_surrogate("forest", ForestFamily)
    for taken in ("forest", DEFAULT):
        with pytest.raises(ValueError, match=f"called '{taken}' already"):
            register_surrogate(taken, ForestFamily)


def test_a_family_is_made_when_it_is_needed(own_registry):
    calls = []
    register_surrogate("late", lambda: calls.append(1) or ForestFamily())
    assert not calls
    surrogate_family("late")
    assert calls == [1]


def test_a_file_of_weights_is_taken_as_its_path(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"")
    assert checked_surrogate(path) == checked_surrogate(str(path)) == str(path)


def test_names_without_a_family_or_file_are_refused(tmp_path):
    for missing in ("fores", tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"must be one of neural, gp.* or a file"):
            checked_surrogate(missing)


@pytest.mark.parametrize("given", [None, 3, ["gp"], ForestFamily()])
def test_what_is_neither_a_name_nor_a_path_is_refused(given):
    with pytest.raises(TypeError, match="must be a name or a file of weights"):
        checked_surrogate(given)


def test_a_file_without_weights_is_an_error(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"other")
    for name in (str(path), str(tmp_path / "missing.safetensors")):
        with pytest.raises((WeightsError, OSError)):
            surrogate_family(name)


# ---- the example, all the way --------------------------------------------------------------


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("past", [0, PAST_TASKS])
def test_the_policy_searches_with_a_registered_family(space, past):
    register_surrogate("forest", ForestFamily)
    present = task(space, TRIALS, seed=1)
    tasks = [task(space, 25, 10 + i) for i in range(past)]
    decision = suggest(present, tasks, count=3, seed=0, surrogate="forest")
    assert decision.source is Source.ACQUISITION
    assert len({repr(c) for c in decision.configurations}) == 3
    assert decision == suggest(present, tasks, count=3, seed=0, surrogate="forest")
    assert decision.mean is not None
    assert (decision.trust is None) == (not past)
    for point in space.encode(decision.configurations):
        np.testing.assert_array_equal(np.isnan(space.activate(point[None])[0]), np.isnan(point))
