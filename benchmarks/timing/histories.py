"""Histories that are written to be read: archives, an Optuna database, a Ray experiment."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.storages._rdb import models
from sqlalchemy import create_engine, insert

from benchmarks import cache
from metahpo.archive import Archive
from metahpo.tasks.space import Array, Configuration, Space
from metahpo.tasks.task import Task, Trial

TRIALS = 100
SPACE = Space({f"x{i}": FloatDistribution(1e-5, 1.0, log=True) for i in range(7)})


# ---- archives ------------------------------------------------------------------------------


def problem_archive(family: str, count: int, data: Path) -> Path:
    """An archive of problems' random trials, 100 for each of so many tasks; written once."""
    path = cache.CACHE / "archives" / f"{family}-{count}"
    if not path.exists():
        unfinished = path.with_name(f".{path.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        _write_problems(unfinished, family, count, data)
        unfinished.rename(path)
    return path


def _write_problems(path: Path, family: str, count: int, data: Path) -> None:
    """Tasks of the history split, in turns."""
    from benchmarks.problems import load_problem, split

    names = split(family, data).history
    archive = Archive(str(path))
    for index in range(count):
        problem = load_problem(family, names[index % len(names)], data)
        configurations = problem.sample(TRIALS, np.random.default_rng(index))
        trials = _trials(configurations, problem.evaluate(configurations))
        archive.add(Task(f"{problem.name}-{index}", Space(problem.space.distributions), trials))


def write_archive(path: Path, studies: int) -> None:
    """An archive of random tasks."""
    rng = np.random.default_rng(0)
    archive = Archive(str(path))
    for index in range(studies):
        configurations = SPACE.decode(rng.random((TRIALS, len(SPACE))))
        archive.add(Task(f"task {index}", SPACE, _trials(configurations, rng.random(TRIALS))))


def _trials(configurations: Iterable[Configuration], values: Array) -> tuple[Trial, ...]:
    return tuple(Trial(c, float(v)) for c, v in zip(configurations, values, strict=True))


# ---- an Optuna database --------------------------------------------------------------------


def write_database(url: str, studies: int) -> None:
    """An Optuna database of random studies.

    It has Optuna's own schema; the rows are inserted in bulk, since adding 100,000 trials through
    Optuna takes most of an hour.
    """
    optuna.storages.RDBStorage(url)  # creates the tables
    rng = np.random.default_rng(0)
    rows = _study_rows(studies) | _trial_rows(studies) | _value_rows(studies * TRIALS, rng)
    with create_engine(url).begin() as connection:
        for model, values in rows.items():
            connection.execute(insert(model), values)


def _study_rows(studies: int) -> dict[Any, list[dict[str, Any]]]:
    return {
        models.StudyModel: [
            {"study_id": i + 1, "study_name": f"study {i}"} for i in range(studies)
        ],
        models.StudyDirectionModel: [
            {"direction": "MINIMIZE", "study_id": i + 1, "objective": 0} for i in range(studies)
        ],
    }


def _trial_rows(studies: int) -> dict[Any, list[dict[str, Any]]]:
    begin = datetime(2026, 1, 1)
    return {
        models.TrialModel: [
            {
                "trial_id": i + 1,
                "number": i % TRIALS,
                "study_id": i // TRIALS + 1,
                "state": "COMPLETE",
                "datetime_start": begin + timedelta(seconds=i),
                "datetime_complete": begin + timedelta(seconds=i + 1),
            }
            for i in range(studies * TRIALS)
        ]
    }


def _value_rows(trials: int, rng: np.random.Generator) -> dict[Any, list[dict[str, Any]]]:
    texts = {name: distribution_to_json(d) for name, d in SPACE.distributions.items()}
    configurations = SPACE.decode(rng.random((trials, len(SPACE))))
    return {
        models.TrialParamModel: [
            {
                "trial_id": i,
                "param_name": name,
                "param_value": value,
                "distribution_json": texts[name],
            }
            for i, configuration in enumerate(configurations, 1)
            for name, value in configuration.items()
        ],
        models.TrialValueModel: [
            {"trial_id": i, "objective": 0, "value": float(v), "value_type": "FINITE"}
            for i, v in enumerate(rng.random(trials), 1)
        ],
    }


# ---- a Ray experiment ----------------------------------------------------------------------


def write_experiment(path: Path, trials: int, reports: int) -> None:
    """An experiment of random trials, in the files that Ray 2.60 writes."""
    rng = np.random.default_rng(0)
    for number in range(trials):
        params = {f"x{i}": float(rng.random()) for i in range(7)}
        folder = path / f"train_0a1b2_{number:05d}_{number}_2025-03-01_12-00-00"
        folder.mkdir(parents=True)
        (folder / "params.json").write_text(json.dumps(params))
        lines = [
            {
                **_report(number, iteration, params),
                "accuracy": float(rng.random()),
                "done": iteration == reports,
            }
            for iteration in range(1, reports + 1)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "result.json").write_text(text)


def _report(number: int, iteration: int, params: Configuration) -> dict[str, Any]:
    return {
        "timestamp": 1_700_000_000 + 100 * number + iteration,
        "checkpoint_dir_name": None,
        "training_iteration": iteration,
        "trial_id": f"0a1b2_{number:05d}",
        "date": f"2025-03-01_12-00-{iteration % 60:02d}",
        "time_this_iter_s": 1.0,
        "time_total_s": float(iteration),
        "pid": 1234,
        "hostname": "host",
        "node_ip": "127.0.0.1",
        "config": params,
        "time_since_restore": float(iteration),
        "iterations_since_restore": iteration,
        "experiment_tag": str(number),
    }
