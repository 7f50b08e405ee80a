"""MetaSearch in Ray Tune beside MetaSampler in Optuna: same problems, history and seeds.

    python -m benchmarks.ray_regret --tasks 11 --trials 20

Trials run one at a time; the trainable is the surrogate of an ``lcbench`` validation task, the
history is ``good`` (see ``benchmarks.histories``). One line for each task and seed, then the mean
normalised regrets at 10 and 20 trials and their ratio.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ray import tune

from benchmarks.histories import history
from benchmarks.problems import DATA, Problem, load_problem, split
from metahpo.tasks.task import Task
from optuna_meta import MetaSampler
from raytune_meta import MetaSearch

FAMILY = "lcbench"


def param_space(problem: Problem) -> dict[str, Any]:
    """The problem's space in Ray's domains."""
    return {name: _domain(d) for name, d in problem.space.distributions.items()}


def _domain(distribution: optuna.distributions.BaseDistribution) -> Any:
    match distribution:
        case FloatDistribution(low=low, high=high, log=log):
            return tune.loguniform(low, high) if log else tune.uniform(low, high)
        case IntDistribution(low=low, high=high, log=log):
            return tune.lograndint(low, high + 1) if log else tune.randint(low, high + 1)
        case CategoricalDistribution(choices=choices):
            return tune.choice(list(choices))
    raise TypeError(f"no domain for {distribution!r}")


def through_ray(
    problem: Problem, past: Sequence[Task], seed: int, trials: int, data: Path
) -> list[float]:
    """The values of a sweep, one trial at a time."""
    task = problem.task

    def train(config: dict[str, Any]) -> None:
        tune.report({"value": float(load_problem(FAMILY, task, data).evaluate([config])[0])})

    with tempfile.TemporaryDirectory() as folder:
        analysis = tune.run(
            train,
            search_alg=MetaSearch(history=list(past), seed=seed),
            config=param_space(problem),
            metric="value",
            mode="max",
            num_samples=trials,
            max_concurrent_trials=1,
            reuse_actors=True,
            storage_path=folder,
            verbose=0,
        )
    return [trial.last_result["value"] for trial in analysis.trials]


def through_optuna(problem: Problem, past: Sequence[Task], seed: int, trials: int) -> list[float]:
    """The values of a study."""
    sampler = MetaSampler(history=list(past), seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(problem.objective, n_trials=trials)
    return [trial.value for trial in study.trials if trial.value is not None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=11, help="validation tasks")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--data", type=Path, default=DATA, help="the benchmark data")
    options = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Trainables find this package where the driver does.
    paths = os.pathsep.join(str(Path(__file__).parents[1] / part) for part in ("shared", "."))
    ray.init(
        "local",
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}},
    )
    names = split(FAMILY, options.data).validation[: options.tasks]
    regrets: dict[str, list[np.ndarray]] = {"ray": [], "optuna": []}
    for name in names:
        problem = load_problem(FAMILY, name, options.data)
        past = history("good", FAMILY, name, options.data)
        for seed in range(options.seeds):
            found = {
                "ray": through_ray(problem, past, seed, options.trials, options.data),
                "optuna": through_optuna(problem, past, seed, options.trials),
            }
            for host, values in found.items():
                regrets[host].append(problem.bounds.regret(np.maximum.accumulate(values)))
            shown = ", ".join(f"{host} {runs[-1][-1]:.4f}" for host, runs in regrets.items())
            print(f"{problem.name} seed {seed}: {shown}", flush=True)
    for count in (10, 20):
        if count <= options.trials:
            means = {host: np.mean([r[count - 1] for r in runs]) for host, runs in regrets.items()}
            ratio = means["ray"] / means["optuna"]
            print(f"{count} trials: ray {means['ray']:.4f}, optuna {means['optuna']:.4f}, "
                  f"ratio {ratio:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
