"""Learning curves as inputs of the network."""

import numpy as np
import torch

from metahpo.surrogate.curves.curve_values import (
    interpolated,
    sorted_reports,
)


def test_interpolation_equals_numpy() -> None:
    rng = np.random.default_rng(0)
    progress, values = rng.random((3, 9)), rng.normal(size=(3, 9))
    progress[1, 5:] = np.nan
    values[2, 3] = np.inf
    ordered, matching = sorted_reports(torch.from_numpy(progress), torch.from_numpy(values))
    queries = torch.from_numpy(rng.random((3, 50)))
    found = interpolated(ordered, matching, queries).numpy()
    for row in range(3):
        kept = np.isfinite(progress[row]) & np.isfinite(values[row])
        order = np.argsort(progress[row][kept])
        x, y = progress[row][kept][order], values[row][kept][order]
        expected = np.interp(queries[row], x, y, left=np.nan, right=np.nan)
        np.testing.assert_allclose(found[row], expected, atol=1e-9)
    nothing = torch.full((1, 4), torch.nan).double()
    assert bool(interpolated(nothing, nothing, queries[:1]).isnan().all())
