"""What past studies a method may learn from: good, misleading, small or none.

    good          20 tasks of the family, 40 random and 60 TPE trials each
    small         3 tasks of the family, 12 random and 18 TPE trials each
    negated       good, every value negated: the past's best is the present's worst
    other-family  20 tasks of another family under the present one's names and bounds
    none          nothing

The task under test and, in families that share data sets, its data set is never among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import optuna

from benchmarks.cache import cached_pickle
from benchmarks.problems import DATA, Problem, load_family, load_problem, split
from metahpo.space import Space
from metahpo.task import Task, Trial

# Another family whose hyperparameters are at least as many, where there is one.
OTHER_FAMILY = {
    "lcbench": "xgboost",
    "xgboost": "lcbench",
    "rpart": "lcbench",
    "ranger": "lcbench",
    "glmnet": "lcbench",
}


@dataclass(frozen=True)
class Recipe:
    """How many past tasks, and how each was tuned."""

    tasks: int
    random: int
    tpe: int


GOOD = Recipe(tasks=20, random=40, tpe=60)
SMALL = Recipe(tasks=3, random=12, tpe=18)


def history(kind: str, family: str, task: str | None = None, data: Path = DATA) -> list[Task]:
    """The past that a method may learn from.

    Args:
        kind: One of ``KINDS``.
        family: The family of the task under test.
        task: The task under test, left out of its own history.
        data: The benchmark data's folder.
    """
    return KINDS[kind](family, task, data)


def past_tasks(family: str, recipe: Recipe, task: str | None, data: Path = DATA) -> list[str]:
    """Names of data sets in the history split, drawn with a fixed seed.

    Leaving one out moves the next in its place, so that histories differ as little as can be.
    """
    known = split(family, data).history
    drawn = np.random.default_rng(0).permutation(len(known))
    return [known[i] for i in drawn if known[i] != task][: recipe.tasks]


def tuned_task(family: str, task: str, recipe: Recipe, data: Path = DATA) -> Task:
    """A past study of one data set: random trials, then TPE; kept on disk."""
    name = f"history/{family}-{task}-{recipe.random}-{recipe.tpe}.pkl"
    return cached_pickle(name, lambda: _tune(load_problem(family, task, data), recipe))


def _tune(problem: Problem, recipe: Recipe) -> Task:
    # The seed is the data set's own, so that no two tasks try the same random configurations.
    seed = int(problem.task)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=recipe.random)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(problem.objective, n_trials=recipe.random + recipe.tpe)
    trials = tuple(Trial(trial.params, trial.value) for trial in study.get_trials(deepcopy=False))
    return Task(problem.name, Space(problem.space.distributions), trials, source="benchmarks")


def _good(family: str, task: str | None, data: Path) -> list[Task]:
    return _tuned(family, GOOD, task, data)


def _small(family: str, task: str | None, data: Path) -> list[Task]:
    return _tuned(family, SMALL, task, data)


def _negated(family: str, task: str | None, data: Path) -> list[Task]:
    return [_negate(past) for past in _good(family, task, data)]


def _other_family(family: str, task: str | None, data: Path) -> list[Task]:
    space = load_family(family, data).space
    return [_rename(past, space) for past in _good(OTHER_FAMILY[family], task, data)]


def _none(family: str, task: str | None, data: Path) -> list[Task]:
    return []


KINDS: dict[str, Callable[[str, str | None, Path], list[Task]]] = {
    "good": _good,
    "small": _small,
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
