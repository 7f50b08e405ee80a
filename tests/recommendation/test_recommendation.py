"""Recommendations before any trial, by each similarity."""

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

import metahpo
from metahpo.archive import Archive
from metahpo.recommendation.recommend import METHODS, choose, normalised
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial

SPACE = Space({"x": FloatDistribution(0.0, 1.0), "c": CategoricalDistribution(["a", "b"])})
NAN = float("nan")


def family(count=24, *, shared=True, seed=0):
    """Tasks whose optimum is where their meta-feature says; the other one is noise."""
    rng = np.random.default_rng(seed)
    tasks = []
    grid = np.linspace(0.0, 1.0, 15)
    for number in range(count):
        where = (number + 0.5) / count
        xs = grid if shared else rng.random(15)
        trials = tuple(
            Trial({"x": float(x), "c": c}, -((x - where) ** 2) - 0.01 * (c == "b"))
            for x in xs
            for c in ("a", "b")
        )
        described = {"where": where**3 * 1e4, "noise": float(rng.normal())}
        tasks.append(Task(f"t{number}", SPACE, trials, described))
    return tasks


LEARNS = [m for m in METHODS if m not in ("portfolio", "cosine")]


@pytest.mark.parametrize("method", METHODS)
def test_recommendations_are_complete(method):
    tasks = family(12)
    found = metahpo.recommend({"where": 5e3, "noise": 0.0}, tasks, k=3, method=method)
    assert len(found) == len(found.configurations) == 3
    assert len({str(c) for c in found.configurations}) == 3
    assert found.method == method
    assert {name for name, _ in found.past_tasks} == {task.name for task in tasks}
    assert sum(weight for _, weight in found.past_tasks) == pytest.approx(1.0)
    weights = [weight for _, weight in found.past_tasks]
    assert weights == sorted(weights, reverse=True)
    for item in found:
        assert item.configuration.keys() == {"x", "c"}
        assert 0.0 <= item.score <= 1.0
        assert all(0.0 <= evidence.score <= 1.0 for evidence in item.evidence)
    if found.metafeatures:
        assert sum(share for _, share in found.metafeatures) == pytest.approx(1.0)


@pytest.mark.parametrize("method", ["kglasso", "metric"])
def test_learned_similarities_find_what_matters(method):
    tasks = family()
    misses = {"portfolio": [], method: []}
    for index in (1, 12, 22):
        for name, found in misses.items():
            best = metahpo.recommend(tasks[index], tasks, k=1, method=name)
            found.append(abs(best[0].configuration["x"] - (index + 0.5) / len(tasks)))
    assert np.mean(misses[method]) < 0.6 * np.mean(misses["portfolio"])
    found = metahpo.recommend(tasks[3], tasks, k=1, method=method)
    assert found.metafeatures[0][0] == "where"


def test_a_task_does_not_tell_its_own_results():
    tasks = family(8)
    found = metahpo.recommend(tasks[0], tasks, method="knn")
    assert "t0" not in {name for name, _ in found.past_tasks}


def test_configurations_that_differ_are_compared_by_models():
    tasks = family(6, shared=False)
    found = metahpo.recommend({"where": 10.0}, tasks, k=2, method="knn")
    assert len(found) == 2
    assert found[0].configuration["c"] == "a"


def test_missing_and_foreign_metafeatures_are_coped_with():
    tasks = family(6)
    for described in ({}, {"where": NAN}, {"other": 1.0}):
        for method in METHODS:
            found = metahpo.recommend(described, tasks, k=1, method=method)
            assert found[0].configuration["c"] == "a"
    mixed = [*tasks[:3], *(Task(t.name, SPACE, t.trials, {}) for t in tasks[3:])]
    assert len(metahpo.recommend({"where": 1.0}, mixed, k=2)) == 2


def test_an_archive_by_its_path(tmp_path):
    Archive(tmp_path / "past").extend(family(5))
    found = metahpo.recommend({"where": 1.0}, tmp_path / "past", k=1)
    assert len(found) == 1


def test_wrong_arguments_are_told():
    tasks = family(3)
    with pytest.raises(ValueError, match="k must be at least 1"):
        metahpo.recommend({}, tasks, k=0)
    with pytest.raises(ValueError, match="method must be one of kglasso, knn"):
        metahpo.recommend({}, tasks, method="magic")
    with pytest.raises(ValueError, match="no task with observed trials"):
        metahpo.recommend({}, [])
    other = Task("new", Space({"depth": FloatDistribution(0, 1)}))
    with pytest.raises(ValueError, match="no task with observed trials"):
        metahpo.recommend(other, tasks)


# ---- parts ---------------------------------------------------------------------------------


def test_scores_are_normalised_task_by_task():
    np.testing.assert_allclose(
        normalised(np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])), [[0, 1, 0.5], [1, 1, 1]]
    )


def test_later_configurations_cover_what_the_first_misses():
    scores = np.array([[1.0, 0.9, 0.0], [1.0, 0.9, 0.0], [0.0, 0.1, 1.0]])
    assert choose(scores, np.full(3, 1 / 3), 2) == [0, 2]
    assert choose(scores, np.array([0.9, 0.2, -0.1]), 1) == [0]


def test_votes_are_for_the_best_however_the_rest_did():
    scores = np.zeros((3, 10))
    # Two tasks do best with the first candidate; the mean is best at the second.
    scores[:, 0], scores[:, 1] = (1.0, 1.0, 0.0), (0.9, 0.9, 1.0)
    alike = np.full(3, 1 / 3)
    assert choose(scores, alike, 1) == [1]
    assert choose(scores, alike, 1, vote=True) == [0]
