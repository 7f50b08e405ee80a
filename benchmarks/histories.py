"""Histories that a method may learn from: good, misleading, small or none.

    good          20 tasks of the family, 40 random and 60 TPE trials each
    small         3 tasks of the family, 12 random and 18 TPE trials each
    large         all tasks of the family's history, 120 random and 180 TPE trials each
    other-space   good, but tuned in a space with other bounds, without two of the
                  hyperparameters, and with a third under another name
    negated       good, with every value negated: the best past trials are the worst
    other-family  20 tasks of another family under the present one's names and bounds
    none          nothing

The task under test and, in families that share data sets, its data set is never among them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna

from benchmarks.cache import cached_pickle
from benchmarks.foreign import ForeignSpace
from benchmarks.problems import DATA, Problem, load_problem, relatives, space_of, split
from metahpo.tasks.space import Space
from metahpo.tasks.task import Task, Trial

# Another family whose hyperparameters are at least as many, where there is one.
OTHER_FAMILY = {
    "lcbench": "xgboost",
    "xgboost": "lcbench",
    "rpart": "lcbench",
    "ranger": "lcbench",
    "glmnet": "lcbench",
    "fcnet": "hpobench",
    "hpobench": "fcnet",
    "rf": "xgboost",
    "adaboost": "xgboost",
    "deepar": "lcbench",
    "nas201": "lcbench",
    "svm": "xgboost",
    "mlp": "lcbench",
    "lenet": "lcbench",
}


@dataclass(frozen=True)
class Recipe:
    """The number of past tasks, and how each was tuned."""

    tasks: int
    random: int
    tpe: int


GOOD = Recipe(tasks=20, random=40, tpe=60)
SMALL = Recipe(tasks=3, random=12, tpe=18)
LARGE = Recipe(tasks=10**9, random=120, tpe=180)


def history(kind: str, family: str, task: str | None = None, data: Path = DATA) -> list[Task]:
    """Return the past tasks that a method may learn from.

    Args:
        kind: One of ``KINDS``.
        family: The family of the task under test.
        task: The task under test, left out of its own history.
        data: The benchmark data's folder.
    """
    return KINDS[kind](family, task, data)


def past_tasks(family: str, recipe: Recipe, task: str | None, data: Path = DATA) -> list[str]:
    """Names of data sets in the history split, drawn with a fixed seed.

    Leaving some out puts the next in their place, so that histories differ as little as possible.
    """
    known = split(family, data).history
    drawn = np.random.default_rng(0).permutation(len(known))
    left_out = frozenset() if task is None else relatives(family, task)
    return [known[i] for i in drawn if known[i] not in left_out][: recipe.tasks]


def tuned_task(family: str, task: str, recipe: Recipe, data: Path = DATA) -> Task:
    """A past study of one data set: random trials, then TPE; kept on disk."""
    name = f"history/{family}-{task}-{recipe.random}-{recipe.tpe}.pkl"
    return cached_pickle(name, lambda: _tune(load_problem(family, task, data), recipe))


def foreign_task(family: str, task: str, recipe: Recipe, data: Path = DATA) -> Task:
    """The same in another space than the family's (``ForeignSpace``); kept on disk."""
    name = f"history/{family}-{task}-{recipe.random}-{recipe.tpe}-foreign.pkl"
    return cached_pickle(
        name, lambda: _tune(ForeignSpace(load_problem(family, task, data)), recipe)
    )


def _tune(problem: Problem, recipe: Recipe) -> Task:
    sampler = optuna.samplers.TPESampler(
        seed=_seed_of(problem.name), n_startup_trials=recipe.random
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(problem.objective, n_trials=recipe.random + recipe.tpe)
    trials = tuple(Trial(trial.params, trial.value) for trial in study.get_trials(deepcopy=False))
    space = Space(problem.space.distributions)
    return Task(problem.name, space, trials, problem.metafeatures, source="benchmarks")


def _seed_of(name: str) -> int:
    """A seed derived from the name, so that no two tasks try the same random configurations."""
    task = name.split("/")[1]
    return int(task) if task.isdigit() else zlib.crc32(name.encode())


def _large(family: str, task: str | None, data: Path) -> list[Task]:
    return _tuned(family, LARGE, task, data)


def _other_space(family: str, task: str | None, data: Path) -> list[Task]:
    return [
        foreign_task(family, name, GOOD, data) for name in past_tasks(family, GOOD, task, data)
    ]


def _good(family: str, task: str | None, data: Path) -> list[Task]:
    return _tuned(family, GOOD, task, data)


def _small(family: str, task: str | None, data: Path) -> list[Task]:
    return _tuned(family, SMALL, task, data)


def _negated(family: str, task: str | None, data: Path) -> list[Task]:
    return [_negate(past) for past in _good(family, task, data)]


def _other_family(family: str, task: str | None, data: Path) -> list[Task]:
    space = space_of(family, data)
    return [_rename(past, space) for past in _good(OTHER_FAMILY[family], task, data)]


def _none(family: str, task: str | None, data: Path) -> list[Task]:
    return []


KINDS: dict[str, Callable[[str, str | None, Path], list[Task]]] = {
    "good": _good,
    "small": _small,
    "large": _large,
    "other-space": _other_space,
    "negated": _negated,
    "other-family": _other_family,
    "none": _none,
}


def _tuned(family: str, recipe: Recipe, task: str | None, data: Path) -> list[Task]:
    names = past_tasks(family, recipe, task, data)
    return [tuned_task(family, name, recipe, data) for name in names]


def _negate(task: Task) -> Task:
    trials = tuple(replace(t, value=None if t.value is None else -t.value) for t in task.trials)
    return replace(task, trials=trials)


def _rename(task: Task, space: Space) -> Task:
    """The task with its hyperparameters under the names and bounds of another space.

    Positions in the unit cube are kept, so that names and ranges agree and meaning does not.
    Where there are fewer hyperparameters than names, they are used again from the first.
    """
    points = task.space.encode([trial.configuration for trial in task.trials])
    columns = np.arange(len(space)) % points.shape[1]
    configurations = space.decode(space.activate(points[:, columns]))
    trials = tuple(
        replace(trial, configuration=configuration)
        for trial, configuration in zip(task.trials, configurations, strict=True)
    )
    return replace(task, space=Space(space.distributions), trials=trials)
