"""RGPE as a peer: expected improvement over random candidates and neighbours of the best."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from botorch.acquisition import LogExpectedImprovement, PosteriorMean
from botorch.models import SingleTaskGP

from benchmarks.peers.portfolio import all_active, values_of
from benchmarks.problems import Problem
from benchmarks.rgpe import MIN_TRIALS, RGPE, fit_gp, standardised
from metahpo.surrogate.features import FeatureMap
from metahpo.tasks.space import Array, Configuration, Space
from metahpo.tasks.task import Task

CANDIDATES = 1_000
NEIGHBOURS = 200
SCALES = (0.2, 0.05, 0.01)
# A process is fitted to so many of a past task's trials at most: sixty tasks take minutes already.
PAST_TRIALS = 100


class RGPEPeer:
    """A study of the ensemble; past tasks are seen in the present space, as all peers see them."""

    def __init__(self, problem: Problem, history: Sequence[Task], seed: int, trials: int) -> None:
        self._problem = problem
        self._past = past_models(history, problem.space)
        self._rng = np.random.default_rng(seed)
        self._seed = seed
        self._points = np.empty((0, len(problem.space)))
        self._values: list[float] = []

    def ask(self) -> dict[str, Any]:
        """The largest expected improvement; while few trials are known, the best prediction."""
        space = self._problem.space
        if not self._past and len(self._values) < MIN_TRIALS:
            return self._problem.sample(1, self._rng)[0]
        X = torch.from_numpy(FeatureMap(space).array(self._points))
        y = torch.tensor(self._values, dtype=torch.double)
        model = RGPE(self._past, X, y, self._seed)
        if len(y) < MIN_TRIALS:
            acquisition = PosteriorMean(model)
        else:
            acquisition = LogExpectedImprovement(model, best_f=standardised(y).max())
        candidates = self._rng.random((CANDIDATES, len(space)))
        best = self._best(acquisition, candidates)
        for scale in SCALES:
            best = self._best(acquisition, np.concatenate([best, self._near(best, scale)]))
        return space.decode(space.activate(best))[0]

    def tell(self, configuration: Configuration, value: float) -> None:
        """One more trial."""
        space = self._problem.space
        point = space.activate(all_active([configuration], space))
        self._points = np.concatenate([self._points, point])
        self._values.append(value)

    def close(self) -> None:
        """Nothing to let go of."""

    def _best(self, acquisition: Any, points: Array) -> Array:
        """The best point that was not tried yet, 1 x d; the best one where all were."""
        space = self._problem.space
        active = space.activate(space.snap(points))
        with torch.no_grad():
            scores = acquisition(
                torch.from_numpy(FeatureMap(space).array(active))[:, None]
            ).numpy()
        tried = {point.tobytes() for point in self._points}
        order = np.argsort(-scores)
        fresh = (i for i in order if active[i].tobytes() not in tried)
        return points[[next(fresh, order[0])]]

    def _near(self, point: Array, scale: float) -> Array:
        tiled = np.repeat(point, NEIGHBOURS, axis=0)
        moved = np.clip(tiled + self._rng.normal(0.0, scale, tiled.shape), 0.0, 1.0)
        categorical = np.array(self._problem.space.is_categorical)
        moved = np.where(categorical, self._rng.random(tiled.shape), moved)
        return np.where(self._rng.random(tiled.shape) < 0.5, moved, tiled)


_models: dict[str, list[SingleTaskGP]] = {}


def past_models(history: Sequence[Task], space: Space) -> list[SingleTaskGP]:
    """A process for each past task, kept by content for as long as the process lives."""
    key = hashlib.sha256(repr((history, space)).encode()).hexdigest()
    if key not in _models:
        _models[key] = [_fit(task, space) for task in history]
    return _models[key]


def _fit(task: Task, space: Space) -> SingleTaskGP:
    trials = task.observed
    rows = np.linspace(0, len(trials) - 1, min(len(trials), PAST_TRIALS)).round().astype(int)
    points = all_active([trials[i].configuration for i in rows], space)
    X = torch.from_numpy(FeatureMap(space).array(space.activate(points)))
    return fit_gp(X, torch.from_numpy(values_of(task)[rows]))
