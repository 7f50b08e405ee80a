"""Which of a long study's own trials surrogates are fitted to.

Gaussian processes cost the cube of the number of trials, and networks its square. Of a long study
they therefore see the latest trials and some of the earlier ones: the best, and those farthest
from all others, which keep the rest of the space explored.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from metahpo.settings import ContextSettings
from metahpo.surrogate.aligned_history import AlignedHistory
from metahpo.surrogate.study_arrays import StudyArrays
from metahpo.tasks.space import INACTIVE_POSITION, Array, Space


def context_rows(
    study: StudyArrays, history: AlignedHistory, settings: ContextSettings, count: int
) -> NDArray[np.intp]:
    """Which of a study's first trials a surrogate of these is fitted to.

    A function of these trials alone, so that a restarted or second worker comes to the same.

    Args:
        study: The study.
        history: Keeps the choice among the earlier trials, which serves for some trials.
        settings: How many trials are chosen.
        count: How many of the first trials there are to choose from.

    Returns:
        Ascending rows of ``study.points``: all of them up to ``settings.most``.
    """
    if count <= settings.most:
        return np.arange(count)
    earlier = (count - settings.latest) // settings.step * settings.step
    make = partial(
        _best_and_farthest, study.space, study.points[:earlier], study.values[:earlier], settings
    )
    key = study.digests[earlier]
    kept = history.remember("kept trials", key, make, most=settings.kept_choices)
    return np.concatenate([kept, np.arange(earlier, count)])


def _best_and_farthest(
    space: Space, points: Array, values: Array, settings: ContextSettings
) -> NDArray[np.intp]:
    """Rows of the best trials, and of others each farthest from all that were chosen before.

    Farthest-first traversal (Gonzalez 1985, "Clustering to minimize the maximum intercluster
    distance"); two choices are one range apart.
    """
    placed = np.where(np.isnan(points), INACTIVE_POSITION, points)
    categorical = np.asarray(space.is_categorical, dtype=bool)
    nearest = np.full(len(points), np.inf)
    chosen = np.argsort(-values, kind="stable")[: settings.best].tolist()
    for number in range(min(settings.kept, len(points))):
        if number == len(chosen):
            chosen.append(int(np.argmax(nearest)))
        gaps = np.abs(placed - placed[chosen[number]])
        gaps = np.where(categorical, gaps > 0.0, gaps)
        nearest = np.minimum(nearest, np.square(gaps).sum(axis=1))
        nearest[chosen[number]] = -1.0
    return np.sort(chosen)
