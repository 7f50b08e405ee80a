"""All configurations of small discrete spaces, against the plain product of their values."""

from itertools import product

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from metahpo.suggest.cells import cells
from metahpo.surrogate.study_arrays import placed
from metahpo.tasks.space import Condition, Space

NESTED = Space(
    {
        "momentum": FloatDistribution(0, 1, step=0.5),
        "optimizer": CategoricalDistribution(["adam", "sgd", None]),
        "nesterov": CategoricalDistribution([False, True]),
        "layers": IntDistribution(1, 4),
        "one": FloatDistribution(2, 2),
        "width_3": IntDistribution(1, 8, log=True),
    },
    {
        "momentum": Condition("optimizer", choices=("sgd",)),
        "nesterov": Condition("momentum", at_least=0.5),
        "width_3": Condition("layers", at_least=3),
    },
)
FREE = np.full(len(NESTED), np.nan)


def values_of(space: Space, column: int) -> list:
    name = space.names[column]
    points = np.full((space.levels[column], len(space)), np.nan)
    points[:, column] = space.level_positions(column)
    return [configuration[name] for configuration in space.decode(points)]


def plain(space: Space, fixed: dict) -> set[tuple]:
    """Every combination, without what its conditions rule out."""
    found = set()
    values = [[fixed[n]] if n in fixed else values_of(space, i) for i, n in enumerate(space)]
    for combination in product(*values):
        point = placed(space, [dict(zip(space, combination, strict=True))])
        found |= {tuple(sorted(c.items())) for c in space.decode(space.canonical(point))}
    return found


@pytest.mark.parametrize(
    "fixed",
    [{}, {"optimizer": "adam"}, {"momentum": 0.5}, {"layers": 1, "nesterov": True}],
    ids=str,
)
def test_all_configurations_are_listed_once_and_no_others(fixed):
    (held,) = placed(NESTED, [fixed])
    found = cells(NESTED, held, 1000)
    assert found is not None
    listed = [tuple(sorted(c.items())) for c in NESTED.decode(found)]
    assert len(listed) == len(set(listed))
    assert set(listed) == plain(NESTED, fixed)
    np.testing.assert_array_equal(NESTED.canonical(found, held), found)


def test_no_more_than_the_limit_are_listed():
    found = cells(NESTED, FREE, 1000)
    assert found is not None
    assert len(cells(NESTED, FREE, len(found))) == len(found)
    assert cells(NESTED, FREE, len(found) - 1) is None


def test_a_continuous_hyperparameter_counts_only_where_it_may_be_active():
    space = Space(
        {"c": CategoricalDistribution(["a", "b"]), "x": FloatDistribution(0, 1)},
        {"x": Condition("c", choices=("a",))},
    )
    assert cells(space, np.full(2, np.nan), 1000) is None
    (held,) = placed(space, [{"c": "b"}])
    np.testing.assert_array_equal(cells(space, held, 1000), [[0.75, np.nan]])
    (held,) = placed(space, [{"x": 0.3}])
    assert len(cells(space, held, 1000)) == 2


def test_a_tree_of_choices_has_few_configurations_where_the_product_is_large():
    names = [f"x{i}" for i in range(30)]
    space = Space(
        {"kind": CategoricalDistribution(names)} | dict.fromkeys(names, IntDistribution(1, 10)),
        {name: Condition("kind", choices=(name,)) for name in names},
    )
    assert len(cells(space, np.full(31, np.nan), 300)) == 300


def test_a_huge_choice_is_not_listed():
    space = Space({"n": IntDistribution(0, 10**12), "m": IntDistribution(0, 10**12)})
    assert cells(space, np.full(2, np.nan), 2000) is None
