"""Synthetic episodes of the prior."""

import numpy as np
import pytest
import torch

from metahpo.train.draw import Draw
from metahpo.train.surrogate.episodes import (
    Episodes,
    Shape,
    biased_choice,
    draw_shape,
    standardised,
)
from metahpo.train.surrogate.measure import (
    rank_correlation,
)
from metahpo.train.surrogate.prior import synthetic_episodes
from metahpo.train.surrogate.prior_spaces import draw_spaces


def episodes(shape: Shape, seed: int = 0) -> Episodes:
    return synthetic_episodes(shape, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "shape",
    [Shape(3, 4, 9, 5, 8, 6), Shape(2, 0, 5, 0, 8, 1), Shape(2, 1, 5, 1, 8, 26)],
    ids=["usual", "nothing", "wide"],
)
def test_synthetic_episodes_are_valid_and_reproducible(shape: Shape) -> None:
    one, two, other = episodes(shape), episodes(shape), episodes(shape, seed=1)
    assert torch.equal(one.values, two.values)
    assert not torch.equal(one.values, other.values)
    assert one.points.shape == (shape.episodes, shape.trials + shape.queries, one.points.shape[2])
    assert one.past_points.shape[:3] == (shape.episodes, shape.past_tasks, shape.past_trials)
    assert bool(one.values.isfinite().all())
    assert bool(one.past_values.isfinite().all())
    active = one.points[~one.points.isnan()]
    assert bool(((active >= 0) & (active <= 1)).all())
    batch = standardised(one)
    assert bool(batch.targets.isfinite().all())
    assert (batch.past is None) == (shape.past_tasks == 0)


def test_conditional_hyperparameters_are_active_where_their_parent_admits_it() -> None:
    shape = Shape(64, 0, 1, 0, 1, 8)
    draw = Draw(torch.Generator().manual_seed(0))
    spaces = draw_spaces(shape, draw)
    points = spaces.configurations(50, 1, draw)[:, 0]
    conditional = 0
    for row in range(shape.episodes):
        parent = int(spaces.parent[row])
        choices = int(spaces.levels[row, parent])
        for column in range(shape.hyperparameters):
            admitted = spaces.admitted[row, column]
            if bool(admitted.all()):
                assert not bool(points[row, :, column].isnan().any())
                continue
            conditional += 1
            assert column != parent
            assert spaces.description.facts[row, column, -1] == 1.0
            choice = (points[row, :, parent] * choices).long()
            assert torch.equal(points[row, :, column].isnan(), ~admitted[choice])
    assert conditional > 20


def test_past_tasks_of_the_prior_help_to_predict_the_present_one() -> None:
    """Nearest past configurations rank the present ones better than chance, on average.

    200 episodes; the mean correlation's standard error is about 0.03, so that a prior without
    transfer would pass once in some hundred thousand runs.
    """
    made = episodes(Shape(200, 6, 60, 0, 40, 3))
    points, past = made.points.nan_to_num(0.5), made.past_points.nan_to_num(0.5).flatten(1, 2)
    values = made.past_values - made.past_values.mean(-1, keepdim=True)
    values = (values / values.std(-1, keepdim=True).clamp_min(1e-9)).flatten(1)
    near = torch.cdist(points, past).topk(5, largest=False).indices
    predicted = values.gather(1, near.flatten(1)).view(near.shape).mean(-1)
    found = [
        rank_correlation(p, v) for p, v in zip(predicted.numpy(), made.values.numpy(), strict=True)
    ]
    assert np.mean(found) > 0.13


def test_greed_prefers_good_rows_and_zero_greed_is_uniform() -> None:
    """Means over 2,000 draws of 10; four standard errors on either side (1 in 10,000)."""
    values = torch.linspace(-1.7, 1.7, 100).expand(2000, 100)
    generator = torch.Generator().manual_seed(0)
    even, greedy = (
        values.gather(1, biased_choice(values, 10, torch.tensor(greed), generator)).mean()
        for greed in (0.0, 3.0)
    )
    assert abs(float(even)) < 4 * 1.0 / (2000 * 10) ** 0.5
    assert float(greedy) > 0.8


def test_batches_of_all_shapes_have_a_bounded_size() -> None:
    rng = np.random.default_rng(0)
    shapes = [draw_shape(rng, 4000) for _ in range(500)]
    assert {shape.trials == 0 for shape in shapes} == {True, False}
    assert {shape.past_tasks == 0 for shape in shapes} == {True, False}
    rows = [s.episodes * (s.trials + s.queries + s.past_tasks * s.past_trials) for s in shapes]
    assert max(rows) < 12_000
