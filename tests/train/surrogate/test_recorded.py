"""Episodes and held-out studies from recorded tasks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.recorded_tasks import archive, bowl

from metahpo import Archive
from metahpo.train.surrogate.episodes import (
    Shape,
    standardised,
)
from metahpo.train.surrogate.measure import (
    TRIALS,
    held_out,
    with_trials,
)
from metahpo.train.surrogate.recorded import recorded_episodes
from metahpo.train.surrogate.task_families import RecordError, read_families


def test_recorded_episodes_are_valid_and_reproducible(tmp_path: Path) -> None:
    families = read_families(archive(tmp_path, "tasks", [0.2, 0.4, 0.6]))
    # More past tasks than there are.
    for shape in (Shape(40, 5, 9, 6, 10, 0), Shape(5, 0, 9, 0, 10, 0)):
        one, two = (recorded_episodes(families, shape, np.random.default_rng(3)) for _ in range(2))
        assert torch.equal(one.values, two.values)
        assert one.values.shape == (shape.episodes, shape.trials + shape.queries)
        assert one.past_values.shape[:2] == (shape.episodes, shape.past_tasks)
        batch = standardised(one)
        assert bool(batch.targets.isfinite().all())
        # No trial is among its own queries.
        trials, queries = one.values[:, : shape.trials], one.values[:, shape.trials :]
        same = (trials[:, :, None] == queries[:, None]).any(-1).float().mean()
        assert shape.trials == 0 or float(same) < 0.01


def test_short_tasks_yield_episodes_with_fewer_trials(tmp_path: Path) -> None:
    Archive(tmp_path).extend([bowl("a", 0.2, count=21), bowl("b", 0.4, count=30)])
    families = read_families(tmp_path)
    made = recorded_episodes(families, Shape(20, 3, 40, 50, 64, 0), np.random.default_rng(0))
    assert made.trials == 10
    assert made.values.shape == (20, 21)
    assert made.past_values.shape == (20, 3, 40)


def test_short_and_excluded_tasks_are_left_out(tmp_path: Path) -> None:
    folder = archive(tmp_path, "tasks", [0.2, 0.4])
    Archive(folder).add(bowl("other/0", 0.5))
    Archive(folder).add(bowl("tasks/short", 0.5, count=5))
    (family,) = read_families(folder, ["other/"])
    assert [task.name for task in family.tasks] == ["tasks/0", "tasks/1"]
    with pytest.raises(RecordError, match="20 trials"):
        read_families(folder, ["tasks/", "other/"])


def test_a_held_out_study_is_not_among_its_own_past_tasks(tmp_path: Path) -> None:
    families = read_families(archive(tmp_path, "tasks", [0.2, 0.4, 0.6]))
    (studies,) = held_out(families, families)
    assert studies.past_values.shape[:2] == (3, 2)
    few = with_trials(studies, 3)
    assert few.values.shape[1] == studies.values.shape[1] - max(TRIALS) + 3
    assert torch.equal(few.values[:, 3:], studies.values[:, max(TRIALS) :])
