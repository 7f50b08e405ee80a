"""Prior weights of past tasks by their meta-features, and what they become by their ranks."""

import numpy as np
import pytest

from metahpo.similarity import (
    agreement,
    learned_relevance,
    metafeature_weights,
    relevance,
)

NAN = float("nan")


def by_size(*sizes: float) -> list[dict[str, float]]:
    return [{"size": size} for size in sizes]


# ---- meta-features -------------------------------------------------------------------------


def test_tasks_with_closer_metafeatures_weigh_more():
    weights = metafeature_weights({"size": 3.0}, by_size(1, 2, 3, 5, 9))
    assert weights[2] == 1.0
    assert weights[1] > weights[0] > weights[4] > 0
    assert weights[3] == pytest.approx(weights[0])
    # The task at the median distance.
    assert weights[0] == pytest.approx(np.exp(-0.5))


def test_the_unit_of_a_metafeature_does_not_matter():
    past = [{"size": s, "skew": k} for s, k in [(1, 0.1), (2, 0.5), (4, 0.2), (8, 0.9)]]
    scaled = [{"size": 1e6 * task["size"] + 5, "skew": task["skew"]} for task in past]
    np.testing.assert_allclose(
        metafeature_weights({"size": 1e6 * 3.0 + 5, "skew": 0.3}, scaled),
        metafeature_weights({"size": 3.0, "skew": 0.3}, past),
    )


@pytest.mark.parametrize("unknown", [NAN, float("inf"), None])
def test_a_metafeature_unknown_on_one_side_has_no_effect(unknown):
    present, past = {"size": 3.0}, by_size(1, 2, 5)
    weights = metafeature_weights(present, past)
    extra = {} if unknown is None else {"skew": unknown}
    ours = metafeature_weights({**present, **extra}, [{**task, "skew": 1.0} for task in past])
    theirs = metafeature_weights({**present, "skew": 1.0}, [{**task, **extra} for task in past])
    np.testing.assert_allclose(ours, weights)
    np.testing.assert_allclose(theirs, weights)


def test_a_task_without_metafeatures_keeps_its_full_weight():
    weights = metafeature_weights({"size": 3.0}, [*by_size(1, 2, 5), {}, {"size": NAN}])
    assert weights[3] == weights[4] == 1.0
    assert weights[0] < 1.0


@pytest.mark.parametrize("constant", [2.0, 0.1, 123456789.1])
def test_a_constant_metafeature_has_no_effect(constant):
    past = by_size(1, 2, 3, 5, 8, 13, 21)
    with_constant = [{**task, "constant": constant} for task in past]
    np.testing.assert_allclose(
        metafeature_weights({"size": 3.0, "constant": constant + 1}, with_constant),
        metafeature_weights({"size": 3.0}, past),
    )


def test_without_metafeatures_all_tasks_weigh_the_same():
    assert metafeature_weights({}, by_size(1, 2)).tolist() == [1.0, 1.0]
    assert metafeature_weights({"size": 1.0}, [{}, {}]).tolist() == [1.0, 1.0]
    assert metafeature_weights({"size": 1.0}, by_size(7)).tolist() == [1.0]
    assert metafeature_weights({"size": 1.0}, []).tolist() == []


def test_relevance_is_proportional_to_overlap_and_sums_to_one():
    np.testing.assert_allclose(relevance({}, [{}, {}], np.array([1.0, 0.25])), [0.8, 0.2])
    near, far = relevance({"size": 1.0}, by_size(1, 9), np.ones(2))
    assert near > far > 0
    assert near + far == pytest.approx(1.0)


def planted(count: int) -> tuple[list[dict[str, float]], np.ndarray]:
    """Two kinds of tasks that rank configurations in opposite orders, described with noise."""
    rng = np.random.default_rng(0)
    kinds = np.arange(count) % 2
    tasks = [
        {"kind": float(kind), **{f"noise{i}": float(rng.normal()) for i in range(12)}}
        for kind in kinds
    ]
    order = np.linspace(0.0, 1.0, 30)
    performance = np.where(kinds[:, None] == 1, order, order[::-1])
    return tasks, performance + 0.05 * rng.standard_normal((count, 30))


def test_with_enough_tasks_the_metafeature_that_matters_decides():
    tasks, performance = planted(40)
    overlap = np.ones(40)
    present = {"kind": 1.0, **{f"noise{i}": 0.0 for i in range(12)}}
    weights = learned_relevance(present, tasks, performance, overlap)
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0.0).all()
    assert weights[1::2].sum() > 0.8 > relevance(present, tasks, overlap)[1::2].sum()
    half = np.where(np.arange(40) == 1, 0.5, 1.0)
    halved = learned_relevance(present, tasks, performance, half)
    assert halved[1] / halved[3] == pytest.approx(0.5 * weights[1] / weights[3])


@pytest.mark.parametrize("count", [1, 2, 19])
def test_with_too_few_tasks_all_metafeatures_count_alike(count):
    tasks, performance = planted(count)
    weights = learned_relevance({"kind": 1.0}, tasks, performance, np.ones(count))
    np.testing.assert_allclose(weights, relevance({"kind": 1.0}, tasks, np.ones(count)))


def test_past_tasks_without_metafeatures_weigh_the_same():
    _, performance = planted(40)
    np.testing.assert_allclose(
        learned_relevance({"kind": 1.0}, [{}] * 40, performance, np.ones(40)), 1 / 40
    )


def test_the_farthest_task_keeps_some_weight():
    weights = metafeature_weights({"size": 0.0}, by_size(*[0.001] * 9, 1e9))
    assert (weights > 0).all()


# ---- ranking -------------------------------------------------------------------------------


def test_agreement_is_the_fraction_of_pairs_ranked_correctly():
    values = np.array([1.0, 5.0, 2.0, 9.0])
    one_swap = np.array([2.0, 5.0, 1.0, 9.0])
    predictions = np.stack([10 * values - 3, -values, np.zeros(4), one_swap], axis=1)
    np.testing.assert_allclose(agreement(values, predictions), [1.0, 0.0, 0.5, 5 / 6])


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0, 2.0]])
def test_agreement_is_one_half_without_pairs_to_rank(values):
    predictions = np.ones((len(values), 2))
    assert agreement(np.array(values), predictions).tolist() == [0.5, 0.5]


def test_agreement_leaves_out_ties_among_the_values():
    predictions = np.array([[1.0], [2.0], [3.0]])
    assert agreement(np.array([1.0, 1.0, 2.0]), predictions).tolist() == [1.0]
