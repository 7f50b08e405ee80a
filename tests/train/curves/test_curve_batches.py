"""Studies of learning curves to train on: synthetic and recorded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.curve_tasks import archive, task

from metahpo import Archive, Trial
from metahpo.tasks.task import TrialState
from metahpo.train.curves.curve_batches import QUERIES, TARGETS
from metahpo.train.curves.curve_prior import synthetic_curves
from metahpo.train.curves.recorded_curves import read_curves, recorded_curves


@pytest.mark.parametrize("context", [0, 1, 10])
def test_synthetic_studies_are_valid_and_reproducible(context: int) -> None:
    one, two, other = (
        synthetic_curves(8, context, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(one.targets.nan_to_num(), two.targets.nan_to_num())
    assert one.curves.progress.shape != other.curves.progress.shape or not torch.equal(
        one.curves.progress.nan_to_num(), other.curves.progress.nan_to_num()
    )
    assert one.targets.shape == (8, context + TARGETS, QUERIES)
    progress = one.curves.progress
    assert bool((progress.diff().nan_to_num(0.0) >= 0).all())
    assert torch.equal(progress.isnan(), one.curves.values.isnan())
    assert bool(((one.now > 0) & (one.now < 1)).all())
    assert float(one.targets[..., 0].isfinite().float().mean()) > 0.8


def test_curves_of_the_prior_rise_fall_and_cross() -> None:
    """Shares of 1,200 studies; each lies more than five standard errors from its bound."""
    made = synthetic_curves(1200, 4, torch.Generator().manual_seed(0))
    values, last = made.curves.values, made.curves.progress.isfinite().sum(-1) - 1
    final = values.gather(-1, last.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    first, best = values[..., 0], values.nan_to_num(-torch.inf).amax(-1)
    span = best - values.nan_to_num(torch.inf).amin(-1)
    rises = ((final - first) > 0.5 * span).float().mean()
    falls = ((best - final) > 0.5 * span).float().mean()
    assert 0.4 < rises < 0.9
    assert 0.05 < falls < 0.4
    # Curves of a study cross between an early report and the end.
    early = values[..., 3]
    order = torch.sign(early[:, :1] - early[:, 1:]) * torch.sign(final[:, :1] - final[:, 1:])
    assert 0.05 < (order == -1).float().mean() < 0.4


def test_recorded_studies_are_reproducible(tmp_path: Path) -> None:
    records = read_curves(archive(tmp_path, "tasks", 3))
    one, two = (recorded_curves(records, 6, 4, np.random.default_rng(1)) for _ in range(2))
    assert torch.equal(one.targets.nan_to_num(), two.targets.nan_to_num())
    assert one.targets.shape == (6, 4 + TARGETS, QUERIES)
    assert recorded_curves(records, 2, 50, np.random.default_rng(1)).context == 30 - TARGETS


def test_tasks_and_trials_with_too_few_reports_are_left_out(tmp_path: Path) -> None:
    good = task("good")
    broken = Trial(
        good.trials[0].configuration,
        None,
        TrialState.FAILED,
        curve=((2.0, 0.5), (1.0, float("nan")), (3.0, float("inf")), (4.0, 1.0)),
    )
    none = Trial(good.trials[0].configuration, 1.0)
    mixed = replace(good, trials=(*good.trials[:15], broken, none))
    Archive(tmp_path).extend([mixed, task("few", count=5), task("short", steps=3)])
    (record,) = read_curves(tmp_path)
    assert record.name == "good"
    assert record.values.shape == (16, 20)
    assert record.values[-1].isfinite().sum() == 2
    batch = recorded_curves([record], 4, 10, np.random.default_rng(0))
    assert batch.targets.shape[1] == 16
