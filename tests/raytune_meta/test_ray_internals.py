"""What the package takes from Ray's internals; these tests fail first where Ray changes."""

import numpy as np
import pytest

pytest.importorskip("ray.tune", reason="Ray is not installed: pip install 'metahpo[ray]'")

from ray import tune
from ray.train._internal import storage
from ray.tune import result
from ray.tune.impl.tuner_internal import _TUNER_PKL
from ray.tune.search import Searcher

from raytune_meta import _ray, folders


class Plain(Searcher):
    """A searcher that does nothing."""


@pytest.fixture
def searcher() -> Searcher:
    return Plain(metric="acc", mode="max")


def test_a_searcher_shows_the_metric_and_mode_that_were_set(searcher):
    _ray.set_metric(searcher, "loss", "min")
    assert (searcher.metric, searcher.mode) == ("loss", "min")


def test_ray_has_messages_for_what_is_undefined(searcher):
    assert "Plain" in _ray.undefined_space(searcher)
    assert "no search space has been defined" in _ray.undefined_space(searcher)
    _ray.set_metric(searcher, None, None)
    assert "the `metric`" in _ray.undefined_metric(searcher)


def test_ray_names_iterations_and_anonymous_metrics():
    assert _ray.TRAINING_ITERATION == "training_iteration"
    assert _ray.DEFAULT_METRIC == "_metric"


def test_functions_and_objects_are_taken_out_and_resolved():
    thing = object()
    tree = {
        "x": tune.uniform(0, 1),
        "double": tune.sample_from(lambda config: 2 * config["x"]),
        "model": tune.choice([thing, "plain"]),
    }
    plain, taken = _ray.take_out_objects(tree)
    assert isinstance(plain["x"], _ray.Domain)
    by_kind = {_ray.is_function(placeholder): (placeholder, r) for placeholder, r in taken.items()}
    assert by_kind.keys() == {True, False}
    placeholder, resolver = by_kind[True]
    assert plain["double"] == placeholder
    assert _ray.resolve(resolver, placeholder, {"x": 0.25}) == 0.5
    placeholder, resolver = by_kind[False]
    assert placeholder in plain["model"].categories
    assert _ray.resolve(resolver, placeholder, {}) is thing


@pytest.mark.parametrize(
    ("domain", "kind", "sampler"),
    [
        (tune.uniform(1, 2), _ray.Float, _ray.Uniform),
        (tune.loguniform(1, 2), _ray.Float, _ray.LogUniform),
        (tune.randn(1, 2), _ray.Float, _ray.Normal),
        (tune.randint(1, 2), _ray.Integer, _ray.Uniform),
        (tune.lograndint(1, 2), _ray.Integer, _ray.LogUniform),
    ],
)
def test_a_domain_shows_its_bounds_and_its_sampler(domain, kind, sampler):
    assert isinstance(domain, kind)
    assert isinstance(domain.get_sampler(), sampler)
    if sampler is _ray.Normal:
        assert (domain.get_sampler().mean, domain.get_sampler().sd) == (1, 2)
        assert (domain.lower, domain.upper) == (-np.inf, np.inf)
    else:
        assert (domain.lower, domain.upper) == (1, 2)


def test_a_quantised_domain_shows_its_quantum_and_inner_sampler():
    sampler = tune.qloguniform(1, 4, 0.5).get_sampler()
    assert isinstance(sampler, _ray.Quantized)
    assert sampler.q == 0.5
    assert isinstance(sampler.get_sampler(), _ray.LogUniform)


def test_a_choice_shows_its_categories_and_whether_it_is_a_grid():
    choice = tune.choice(["a", 1])
    assert isinstance(choice, _ray.Categorical)
    assert choice.categories == ["a", 1]
    assert not choice.is_grid()
    assert _ray.Categorical([1]).grid().is_grid()


def test_ray_writes_files_of_these_names():
    assert (folders.PARAMS, folders.RESULTS, folders.ERRORS) == (
        result.EXPR_PARAM_FILE,
        result.EXPR_RESULT_FILE,
        result.EXPR_ERROR_FILE,
    )
    assert storage._VALIDATE_STORAGE_MARKER_FILENAME in folders.MARKERS
    assert _TUNER_PKL in folders.MARKERS


def test_ray_adds_entries_of_these_names_to_each_result():
    own = set(result.AUTO_RESULT_KEYS) | {result.TRAINING_ITERATION, result.TIME_TOTAL_S}
    assert own <= folders.RESULT_KEYS_OF_RAY | {"config"}
    assert folders.ITERATION == result.TRAINING_ITERATION
    assert folders.SECONDS == result.TIME_TOTAL_S
    assert folders.STEP_SECONDS == result.TIME_THIS_ITER_S


def test_a_domain_can_be_made_from_its_parts():
    domain = _ray.Float(0.0, 1.0).normal(0.5, 2.0).quantized(0.1)
    assert domain.get_sampler().q == 0.1
    assert domain.get_sampler().get_sampler().sd == 2.0
