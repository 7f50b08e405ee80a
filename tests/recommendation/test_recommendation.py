"""Recommendations before any trial, by each similarity."""

from dataclasses import replace

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from support.problems import described_tasks

import metahpo
from metahpo.archive import Archive
from metahpo.recommendation.recommend import METHODS, choose, normalised
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task

NAN = float("nan")


@pytest.mark.parametrize("method", METHODS)
def test_recommendations_name_their_configurations_scores_and_past_tasks(method):
    tasks = described_tasks(12)
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
def test_learned_similarities_find_the_metafeature_that_matters(method):
    tasks = described_tasks()
    misses = {"portfolio": [], method: []}
    for index in (1, 12, 22):
        for name, found in misses.items():
            best = metahpo.recommend(tasks[index], tasks, k=1, method=name)
            found.append(abs(best[0].configuration["x"] - (index + 0.5) / len(tasks)))
    assert np.mean(misses[method]) < 0.6 * np.mean(misses["portfolio"])
    found = metahpo.recommend(tasks[3], tasks, k=1, method=method)
    assert found.metafeatures[0][0] == "where"


def test_the_new_task_itself_is_left_out_of_the_past_tasks():
    tasks = described_tasks(8)
    found = metahpo.recommend(tasks[0], tasks, method="knn")
    assert "t0" not in {name for name, _ in found.past_tasks}


def test_past_tasks_without_common_configurations_are_compared_by_models():
    tasks = described_tasks(6, shared=False)
    found = metahpo.recommend({"where": 10.0}, tasks, k=2, method="knn")
    assert len(found) == 2
    assert found[0].configuration["c"] == "a"


@pytest.mark.parametrize("described", [{}, {"where": NAN}, {"other": 1.0}])
@pytest.mark.parametrize("method", METHODS)
def test_missing_and_foreign_metafeatures_still_give_a_good_configuration(method, described):
    found = metahpo.recommend(described, described_tasks(6), k=1, method=method)
    assert found[0].configuration["c"] == "a"


def test_past_tasks_may_lack_metafeatures():
    tasks = described_tasks(6)
    mixed = [*tasks[:3], *(replace(task, metafeatures={}) for task in tasks[3:])]
    assert len(metahpo.recommend({"where": 1.0}, mixed, k=2)) == 2


def test_an_archive_may_be_given_by_its_path(tmp_path):
    Archive(tmp_path / "past").extend(described_tasks(5))
    found = metahpo.recommend({"where": 1.0}, tmp_path / "past", k=1)
    assert len(found) == 1


def test_wrong_arguments_raise_errors_that_name_them():
    tasks = described_tasks(3)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        metahpo.recommend({}, tasks, k=0)
    with pytest.raises(ValueError, match=r"method must be one of kglasso, knn, .* got 'magic'"):
        metahpo.recommend({}, tasks, method="magic")


def test_past_tasks_without_observed_trials_are_an_error():
    with pytest.raises(ValueError, match="no past task has observed trials"):
        metahpo.recommend({}, [Task("empty", Space({}))])


def test_past_tasks_without_a_common_hyperparameter_are_an_error():
    other = Task("new", Space({"depth": FloatDistribution(0, 1)}))
    with pytest.raises(ValueError, match=r"shares a hyperparameter .* \(depth\)"):
        metahpo.recommend(other, described_tasks(3))


# ---- scores and choices --------------------------------------------------------------------


def test_scores_are_normalised_task_by_task():
    np.testing.assert_allclose(
        normalised(np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]])), [[0, 1, 0.5], [1, 1, 1]]
    )


def test_later_configurations_cover_tasks_on_which_the_first_does_badly():
    scores = np.array([[1.0, 0.9, 0.0], [1.0, 0.9, 0.0], [0.0, 0.1, 1.0]])
    assert choose(scores, np.full(3, 1 / 3), 2) == [0, 2]


def test_negative_weights_count_in_the_first_choice():
    scores = np.array([[1.0, 0.9, 0.0], [1.0, 0.9, 0.0], [0.0, 0.1, 1.0]])
    assert choose(scores, np.array([0.9, 0.2, -0.1]), 1) == [0]


def test_votes_count_only_the_best_candidates_of_each_task():
    scores = np.zeros((3, 10))
    # Two tasks have the first candidate as their best; the second has the best mean.
    scores[:, 0], scores[:, 1] = (1.0, 1.0, 0.0), (0.9, 0.9, 1.0)
    equal = np.full(3, 1 / 3)
    assert choose(scores, equal, 1) == [1]
    assert choose(scores, equal, 1, vote=True) == [0]
