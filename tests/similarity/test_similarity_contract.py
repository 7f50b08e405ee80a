"""Every similarity that recommendations offer keeps the contract; so does the documented one."""

import re
from pathlib import Path

import numpy as np
import pytest
from support.problems import described_tasks

from metahpo.recommendation.recommend import METHODS
from metahpo.similarity import Similarity, ranked

NAN = float("nan")
TASKS = described_tasks(12)
PAST = [task.metafeatures for task in TASKS]
PERFORMANCE = ranked(np.array([task.values for task in TASKS]))


def documented() -> Similarity:
    """The worked example of docs/recommend.md."""
    page = (Path(__file__).parents[2] / "docs" / "recommend.md").read_text()
    [code] = re.findall(r"```python\n([^`]*class SameClasses.*?)```", page, re.DOTALL)
    names: dict = {}
    exec(code, names)
    return names["SameClasses"]()


SIMILARITIES = {**METHODS, "documented": lambda seed: documented()}


@pytest.fixture(params=SIMILARITIES)
def similarity(request) -> Similarity:
    return SIMILARITIES[request.param](0)


@pytest.mark.parametrize(
    "present",
    [{"where": 5e3, "noise": 0.0}, {"where": NAN}, {"unheard": 1.0}, {}],
    ids=["known", "NaN", "foreign", "none"],
)
def test_there_is_a_weight_for_each_past_task_and_they_sum_to_one(similarity, present):
    weights = similarity.fit(PAST, PERFORMANCE).weights(present)
    assert weights.shape == (len(PAST),)
    assert np.isfinite(weights).all()
    assert weights.sum() == pytest.approx(1.0)


def test_shares_of_metafeatures_descend_and_sum_to_one(similarity):
    shares = list(similarity.fit(PAST, PERFORMANCE).importance.values())
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1.0 if shares else 0.0)


@pytest.mark.parametrize(
    ("past", "performance"),
    [
        ([{"where": 1.0}], np.ones((1, 4))),
        ([{}, {}, {}], np.eye(3)),
        ([{"where": NAN}] * 4, np.eye(4)),
        ([{"where": 1.0}] * 4, np.eye(4)),
    ],
    ids=["one task", "not described", "NaN", "constant"],
)
def test_past_tasks_that_cannot_be_told_apart_weigh_the_same(similarity, past, performance):
    weights = similarity.fit(past, performance).weights({"where": 1.5})
    np.testing.assert_allclose(weights, 1.0 / len(past))
