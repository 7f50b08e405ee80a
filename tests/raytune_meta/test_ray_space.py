"""Ray's search spaces as metahpo's: every domain, nesting, conditions, and back."""

import json
import warnings

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

pytest.importorskip("ray.tune", reason="Ray is not installed: pip install 'metahpo[ray]'")

from ray import tune
from ray.tune.search.sample import Categorical, Float
from support.ray_spaces import FLOATS, INTEGERS

from metahpo.tasks.space import Condition, Space
from raytune_meta.domains import from_json, to_json
from raytune_meta.nested_space import SearchSpace
from raytune_meta.plain import plain
from raytune_meta.trees import merged, nested

NESTED = {
    "model": {"lr": tune.loguniform(1e-4, 1e-1), "layers": tune.randint(1, 5), "bias": True},
    "widths": [16, tune.choice([8, 16]), (1, tune.uniform(0, 1))],
    "data": "mnist",
    1: tune.uniform(0, 1),
}
CONDITIONAL = {
    "x": tune.uniform(0, 1),
    "model": tune.choice(
        [
            {"kind": "svm", "C": tune.loguniform(0.1, 10), "shared": tune.uniform(0, 1)},
            {
                "kind": "net",
                "lr": tune.loguniform(1e-4, 1e-1),
                "shared": tune.uniform(0, 1),
                "C": tune.uniform(0, 1),
                "opt": tune.choice([{"sgd": {"momentum": tune.uniform(0, 1)}}, "adam"]),
            },
        ]
    ),
}


def random_configurations(space: Space, count: int = 50) -> list[dict]:
    points = np.random.default_rng(0).random((count, len(space)))
    return space.decode(space.activate(points))


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        (tune.uniform(-1, 2), FloatDistribution(-1, 2)),
        (tune.quniform(0.1, 0.5, 0.1), FloatDistribution(0.1, 0.5, step=0.1)),
        (tune.quniform(0.3, 0.9, 0.3), FloatDistribution(0.3, 0.9, step=0.3)),
        (tune.loguniform(1e-4, 1e-1), FloatDistribution(1e-4, 1e-1, log=True)),
        (tune.qloguniform(0.5, 8, 0.5), FloatDistribution(0.5, 8, log=True)),
        (tune.randn(10, 2), FloatDistribution(4, 16)),
        (tune.qrandn(0, 1, 0.4), FloatDistribution(-2.8, 2.8, step=0.4)),
        (tune.randint(1, 5), IntDistribution(1, 4)),
        (tune.lograndint(1, 100), IntDistribution(1, 99, log=True)),
        (tune.qrandint(1, 10, 3), IntDistribution(3, 9, step=3)),
        (tune.qrandint(1, 10, 5), IntDistribution(5, 10, step=5)),
        (tune.qrandint(1, 5, 1), IntDistribution(1, 4)),
        (tune.qlograndint(2, 64, 2), IntDistribution(2, 64, log=True)),
        (tune.choice(["a", 1, True, None]), CategoricalDistribution(["a", 1, True, None])),
        (tune.choice([(1, 2), [3]]), CategoricalDistribution(["[1, 2]", "[3]"])),
        (FloatDistribution(0, 1), FloatDistribution(0, 1)),
    ],
)
def test_a_domain_becomes_a_distribution_and_values_it_might_draw(domain, expected):
    """As distributions; and every value that is made is one that Ray might draw."""
    search_space = SearchSpace({"x": domain})
    assert search_space.space.distributions == {"x": expected}
    if isinstance(domain, FloatDistribution):
        return
    for configuration in random_configurations(search_space.space):
        finished = search_space.finished(configuration)
        value = search_space.resolve(finished, constants=False)["x"]
        assert domain.is_valid(value)
        if quantum := getattr(domain.get_sampler(), "q", None):
            assert value / quantum == pytest.approx(round(value / quantum))
        assert isinstance(value, float) == isinstance(domain, Float)
        assert search_space.read({"x": value}) == finished


def test_values_that_ray_draws_are_within_the_space():
    tree = {
        "a": tune.quniform(0.1, 0.5, 0.1),
        "b": tune.qrandint(1, 10, 3),
        "c": tune.lograndint(1, 9),
        "d": tune.qlograndint(2, 64, 2),
        "e": tune.qloguniform(0.5, 8, 0.5),
        "f": tune.randint(0, 3),
    }
    space = SearchSpace(tree).space
    for name, domain in tree.items():
        drawn = domain.sample(size=200, random_state=np.random.default_rng(0))
        points = Space({name: space.distributions[name]}).encode([{name: v} for v in drawn])
        assert (np.abs(points - 0.5) <= 0.5 + 1e-9).all(), name


class TestNested:
    def test_names_are_flat(self):
        assert SearchSpace(NESTED).space.names == (
            "model/lr",
            "model/layers",
            "widths/1",
            "widths/2/1",
            "1",
        )

    def test_a_configuration_survives_the_way_through_the_tree(self):
        search_space = SearchSpace(NESTED)
        for configuration in random_configurations(search_space.space):
            tree = search_space.resolve(configuration, constants=False)
            # Constants beside domains are Ray's to add; a list is whole.
            assert tree.keys() == {"model", "widths", 1}
            assert tree["model"].keys() == {"lr", "layers"}
            assert tree["widths"][0] == 16
            assert isinstance(tree["widths"][2], tuple)
            assert search_space.read(tree) == configuration
            assert search_space.read(json.loads(json.dumps(tree))) == configuration
            whole = search_space.resolve(configuration, constants=True)
            assert (whole["data"], whole["model"]["bias"]) == ("mnist", True)

    @pytest.mark.parametrize(
        ("value", "plain"),
        [
            (np.float32(0.5), 0.5),
            (np.int64(3), 3),
            (np.bool_(True), True),
            (np.str_("a"), "a"),
            (np.array(0.5), 0.5),
            (None, None),
            ("a", "a"),
        ],
    )
    def test_scalars_of_numpy_are_read_as_plain_values(self, value, plain):
        read = SearchSpace({"x": tune.uniform(0, 1)}).read({"x": value})
        assert read == {"x": plain}
        assert type(read["x"]) is type(plain)

    def test_flat_trees_are_read(self):
        flat = {"model/lr": 0.01, "model": {"layers": 2}, "data": "x"}
        assert SearchSpace(NESTED).read(flat) == {"model/lr": 0.01, "model/layers": 2}

    def test_keys_are_split_at_slashes(self):
        assert nested({"a/b": 1, "a": {"c": 2}, "d": 3}) == {"a": {"b": 1, "c": 2}, "d": 3}
        assert merged({"a": {"b": 1}, "d": 1}, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}, "d": 1}
        with pytest.raises(ValueError, match="both a value and a group"):
            nested({"a": 1, "a/b": 2})


class TestConditional:
    def test_choices_among_dictionaries_become_conditions(self):
        space = SearchSpace(CONDITIONAL).space
        assert space.conditions == {
            "model/C": Condition("model/kind", ("svm",)),
            "model/shared": Condition("model/kind", ("svm", "net")),
            "model/lr": Condition("model/kind", ("net",)),
            "model/C#2": Condition("model/kind", ("net",)),
            "model/opt": Condition("model/kind", ("net",)),
            "model/opt/sgd/momentum": Condition("model/opt", ("option 0",)),
        }
        assert space.distributions["model/C"] != space.distributions["model/C#2"]

    def test_a_configuration_survives_the_way_through_the_tree(self):
        search_space = SearchSpace(CONDITIONAL)
        seen = set()
        for configuration in random_configurations(search_space.space):
            tree = search_space.resolve(configuration, constants=False)
            assert search_space.read(tree) == configuration
            model = tree["model"]
            if model["kind"] == "svm":
                assert model.keys() == {"kind", "C", "shared"}
                seen.add("svm")
            elif model["opt"] == "adam":
                seen.add("adam")
            else:
                assert 0 <= model["opt"]["sgd"]["momentum"] <= 1
                seen.add("sgd")
        assert seen == {"svm", "adam", "sgd"}

    def test_options_without_a_distinguishing_key_are_numbered(self):
        tree = {"c": tune.choice([{"a": tune.uniform(0, 1)}, {"b": tune.uniform(0, 1)}, [1, 2]])}
        search_space = SearchSpace(tree)
        assert search_space.space.names == ("c", "c/a", "c/b")
        for configuration in random_configurations(search_space.space):
            tree = search_space.resolve(configuration, constants=False)
            assert search_space.read(tree) == configuration

    def test_a_tree_that_fits_no_option_is_left_out(self):
        read = SearchSpace(CONDITIONAL).read({"x": 0.5, "model": {"kind": "forest"}})
        assert read == {"x": 0.5}


class TestRefused:
    @pytest.mark.parametrize(
        "tree",
        [{"x": tune.grid_search([1, 2])}, {"m": {"x": Categorical([1, 2]).grid()}}],
    )
    def test_a_grid_search_is_refused(self, tree):
        with pytest.raises(ValueError, match="Grid search parameters cannot be automatically"):
            SearchSpace(tree)

    @pytest.mark.parametrize(
        "tree",
        [
            {"a/b": tune.uniform(0, 1)},
            {"m": {"a/b": {"c": tune.uniform(0, 1)}}},
            {"m": tune.choice([{"a/b": tune.uniform(0, 1)}, None])},
        ],
    )
    def test_a_key_with_a_slash_above_a_domain_is_refused(self, tree):
        with pytest.raises(ValueError, match="the key 'a/b' of the search space contains '/'"):
            SearchSpace(tree)

    def test_a_key_with_a_slash_above_a_constant_is_accepted(self):
        assert SearchSpace({"a/b": 1, "x": tune.uniform(0, 1)}).space.names == ("x",)

    @pytest.mark.parametrize(
        "domain", [tune.qrandint(4, 5, 3), tune.qlograndint(1, 2, 3), Float(0, 1).normal(0, 1)]
    )
    def test_a_domain_without_values_is_refused(self, domain):
        if isinstance(domain, Float):
            assert SearchSpace({"x": domain}).space.distributions["x"] == FloatDistribution(0, 1)
            return
        with pytest.raises(ValueError, match="'x' has no value"):
            SearchSpace({"x": domain})

    def test_functions_and_legacy_expressions_are_refused(self):
        with pytest.raises(ValueError, match="'x': MetaSearch does not support"):
            SearchSpace({"x": tune.sample_from(lambda: 1)})
        with pytest.raises(ValueError, match=r"use tune\.sample_from"):
            SearchSpace({"x": {"eval": "1"}})


class TestNumbers:
    """Bounds of every numerical type are those of Python's own numbers."""

    @pytest.mark.parametrize("number", FLOATS)
    @pytest.mark.parametrize(
        ("make", "bounds"),
        [
            (tune.uniform, (0.1, 0.3)),
            (tune.loguniform, (0.1, 0.3)),
            (tune.randn, (0.1, 0.3)),
            (tune.quniform, (0.2, 0.8, 0.1)),
            (tune.qloguniform, (0.2, 0.8, 0.1)),
            (tune.qrandn, (0.1, 0.3, 0.1)),
            (FloatDistribution, (0.1, 0.3)),
        ],
    )
    def test_floats(self, number, make, bounds):
        texts = [b if number is np.array else str(b) for b in bounds]
        given = [number(text) for text in texts]
        if make is FloatDistribution and number is not float:
            # Optuna converts for itself.
            expected = FloatDistribution(*map(float, given))
        else:
            expected = SearchSpace({"x": make(*bounds)}).space.distributions["x"]
        space = SearchSpace({"x": make(*given)})
        assert space.space.distributions == {"x": expected}
        again = from_json(json.loads(json.dumps(to_json(space.tree))))
        assert SearchSpace(again).space == space.space

    @pytest.mark.parametrize("number", INTEGERS)
    @pytest.mark.parametrize(
        ("make", "bounds"),
        [
            (tune.randint, (1, 100)),
            (tune.lograndint, (1, 100)),
            (tune.qrandint, (2, 100, 2)),
            (tune.qlograndint, (2, 100, 2)),
            (tune.uniform, (1, 100)),
            (tune.quniform, (2, 100, 2)),
            (IntDistribution, (1, 100)),
            (lambda *choices: tune.choice(choices), (1, 2, 3)),
            (CategoricalDistribution, ((1, 2, 3),)),
        ],
    )
    def test_integers(self, number, make, bounds):
        given = [tuple(map(number, b)) if isinstance(b, tuple) else number(b) for b in bounds]
        with warnings.catch_warnings():
            # Optuna's, about choices of NumPy's.
            warnings.simplefilter("ignore", UserWarning)
            space = SearchSpace({"x": make(*given)})
        assert repr(space.space) == repr(SearchSpace({"x": make(*bounds)}).space)
        again = from_json(json.loads(json.dumps(to_json(space.tree))))
        assert SearchSpace(again).space == space.space

    def test_tensors_are_bounds(self):
        tensor = pytest.importorskip("torch").tensor
        space = SearchSpace({"x": tune.uniform(tensor(0.5), tensor(2)), "n": tune.randint(0, 3)})
        assert space.space.distributions["x"] == FloatDistribution(0.5, 2)

    def test_a_duration_is_no_number(self):
        duration = np.timedelta64(5, "s")
        assert plain(duration) is duration

    def test_large_integers_are_exact(self):
        space = SearchSpace({"x": tune.randint(2**60 + 1, 2**60 + 9)}).space
        assert space.distributions == {"x": IntDistribution(2**60 + 1, 2**60 + 8)}


class TestJson:
    @pytest.mark.parametrize("tree", [NESTED, CONDITIONAL])
    def test_a_space_survives_the_way_through_json(self, tree):
        again = SearchSpace(from_json(json.loads(json.dumps(to_json(tree)))))
        assert again.space == SearchSpace(tree).space
        assert to_json(again.tree) == to_json(SearchSpace(tree).tree)

    @pytest.mark.parametrize(
        "domain",
        [
            tune.randn(1, 2),
            tune.qrandn(1, 2, 0.5),
            tune.qloguniform(0.5, 8, 0.5),
            tune.qlograndint(2, 64, 2),
            IntDistribution(1, 9, step=2),
        ],
    )
    def test_a_domain_survives_the_way_through_json(self, domain):
        space = SearchSpace({"x": domain})
        again = from_json(json.loads(json.dumps(to_json(space.tree))))
        assert SearchSpace(again).space == space.space

    def test_other_objects_are_refused(self):
        with pytest.raises(TypeError, match="cannot hold"):
            to_json({"x": object()})
        with pytest.raises(ValueError, match="not a recorded search space"):
            from_json({"unknown": []})
