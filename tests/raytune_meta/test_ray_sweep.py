"""MetaSearch in real sweeps of Ray Tune, on one local Ray for each test process."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

pytest.importorskip("ray.tune", reason="Ray is not installed: pip install 'metahpo[ray]'")

from optuna.distributions import FloatDistribution
from ray import tune
from ray.tune.schedulers import ASHAScheduler, HyperBandScheduler, MedianStoppingRule
from ray.tune.search import ConcurrencyLimiter
from support.ray_trainables import fail_below_zero, report_anything, train

from raytune_meta import MetaSearch, read_experiment

pytestmark = [
    # One local Ray for all of them.
    pytest.mark.xdist_group("ray"),
    pytest.mark.timeout(600),
]

SLOW = pytest.mark.slow
SPACE = {"m": {"x": tune.uniform(np.float32(-5), np.int64(5))}, "k": 3}


def sweep(function, tmp_path, **arguments):
    options = {
        "config": SPACE,
        "metric": "loss",
        "mode": "min",
        "num_samples": 6,
        "max_concurrent_trials": 2,
        "reuse_actors": True,
        "search_alg": MetaSearch(seed=0),
        "raise_on_failed_trial": False,
        "verbose": 0,
    }
    return tune.run(function, storage_path=str(tmp_path), name="sweep", **options | arguments)


def ended(search: MetaSearch) -> bool:
    return not any(True for _ in search._ledger.running)


@pytest.mark.usefixtures("local_ray")
def test_a_sweep_runs_and_its_folder_is_history_for_the_next(tmp_path):
    analysis = sweep(train, tmp_path)
    assert [trial.status for trial in analysis.trials] == ["TERMINATED"] * 6
    assert len({trial.config["m"]["x"] for trial in analysis.trials}) == 6
    task = read_experiment(tmp_path / "sweep", "loss", "min")
    assert len(task.trials) == 6
    assert all(len(trial.curve) == 4 for trial in task.trials)

    search = MetaSearch(history=str(tmp_path), seed=0)
    tuner = tune.Tuner(
        train,
        param_space=SPACE,
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(search, 1), metric="loss", mode="min", num_samples=2,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path / "second"), verbose=0),
    )  # fmt: skip
    results = tuner.fit()
    best = analysis.best_config["m"]["x"]
    assert abs(results.get_best_result().config["m"]["x"] - best) < 1.5


@pytest.mark.parametrize("through_tuner", [True, pytest.param(False, marks=SLOW)])
@pytest.mark.usefixtures("local_ray")
def test_the_first_sweep_may_name_its_own_storage_as_history(tmp_path, through_tuner):
    search = MetaSearch(history=tmp_path, seed=0)
    if not through_tuner:
        assert len(sweep(train, tmp_path, search_alg=search, num_samples=2).trials) == 2
        return
    config = tune.TuneConfig(
        search_alg=search, metric="loss", mode="min", num_samples=2, reuse_actors=True
    )
    run_config = tune.RunConfig(storage_path=str(tmp_path), verbose=0)
    results = tune.Tuner(train, param_space=SPACE, tune_config=config, run_config=run_config).fit()
    assert results.num_errors == 0


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_sweep_without_a_concurrency_limit_ends(tmp_path):
    search = MetaSearch(seed=0)
    sweep(train, tmp_path, search_alg=search, max_concurrent_trials=None)
    assert len(search._ledger) == 6
    assert ended(search)


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda: ASHAScheduler(max_t=4, grace_period=1, reduction_factor=2),
        pytest.param(lambda: HyperBandScheduler(max_t=4, reduction_factor=2), marks=SLOW),
        pytest.param(
            lambda: MedianStoppingRule(grace_period=1, min_samples_required=2), marks=SLOW
        ),
    ],
    ids=["asha", "hyperband", "median"],
)
@pytest.mark.usefixtures("local_ray")
def test_a_sweep_with_a_scheduler_ends(tmp_path, scheduler):
    search = MetaSearch(seed=0)
    sweep(train, tmp_path, search_alg=search, scheduler=scheduler())
    assert len(search._ledger) == 6
    assert ended(search)


@pytest.mark.parametrize("reuse_actors", [pytest.param(False, marks=SLOW), True])
@pytest.mark.usefixtures("local_ray")
def test_invalid_values_do_not_end_the_sweep(tmp_path, monkeypatch, reuse_actors):
    monkeypatch.setenv("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
    space = {"i": tune.randint(0, 6), "x": tune.uniform(0, 1)}
    points = [{"i": i, "x": i / 7} for i in range(6)]
    search = MetaSearch(seed=0, points_to_evaluate=points)
    sweep(report_anything, tmp_path, config=space, search_alg=search, num_samples=7,
          max_concurrent_trials=3, reuse_actors=reuse_actors)  # fmt: skip
    assert len(search._ledger) == 7
    assert ended(search)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_failed_trials_do_not_end_the_sweep(tmp_path):
    points = [{"m": {"x": x}} for x in (-1.0, 1.0, -2.0)]
    search = MetaSearch(seed=0, points_to_evaluate=points)
    analysis = sweep(fail_below_zero, tmp_path, search_alg=search)
    assert [trial.status for trial in analysis.trials][:3] == ["ERROR", "TERMINATED", "ERROR"]
    assert len(search._ledger) == 6


@pytest.mark.usefixtures("local_ray")
def test_functions_are_resolved_and_grids_are_refused(tmp_path):
    def check(config):
        assert config["double"] == 2 * config["x"]
        tune.report({"loss": config["x"]})

    space = {"x": tune.uniform(0, 1), "double": tune.sample_from(lambda c: 2 * c["x"])}
    analysis = sweep(check, tmp_path, config=space, num_samples=2)
    assert [trial.status for trial in analysis.trials] == ["TERMINATED"] * 2
    with pytest.raises(ValueError, match="Grid search parameters cannot be automatically"):
        sweep(train, tmp_path, config={"x": tune.grid_search([1, 2])})
    with pytest.raises(ValueError, match="already instantiated with a search space"):
        sweep(train, tmp_path, search_alg=MetaSearch(SPACE))


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_restored_search_goes_on_in_a_sweep_without_a_space(tmp_path):
    space = {"m": {"x": FloatDistribution(-5, 5)}, "k": np.int64(3)}
    first = MetaSearch(space, "loss", "min", seed=0)
    sweep(train, tmp_path / "first", config={}, search_alg=first)
    (state,) = (tmp_path / "first" / "sweep").glob("searcher-state-*")
    search = MetaSearch()
    search.restore(str(state))
    analysis = sweep(train, tmp_path / "second", config={"z": 1}, search_alg=search, num_samples=2)
    assert [trial.status for trial in analysis.trials] == ["TERMINATED"] * 2
    assert all(trial.config.keys() == {"m", "k", "z"} for trial in analysis.trials)
    assert len(search._ledger) == 8


DRIVER = textwrap.dedent(
    """
    import os, sys, time
    import ray
    from ray import tune
    from raytune_meta import MetaSearch

    def train(config):
        time.sleep(0.5)
        tune.report({"loss": (config["x"] - 2) ** 2})

    if __name__ == "__main__":
        ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20,
                 log_to_driver=False)
        tune.Tuner(
            train,
            param_space={"x": tune.uniform(-5, 5)},
            tune_config=tune.TuneConfig(search_alg=MetaSearch(seed=0), metric="loss", mode="min",
                                        num_samples=12, max_concurrent_trials=2,
                                        reuse_actors=True),
            run_config=tune.RunConfig(storage_path=sys.argv[1], name="killed", verbose=0),
        ).fit()
    """
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_driver_that_is_killed_is_restored(tmp_path):
    """It is killed half-way; the rest is suggested once."""
    (tmp_path / "driver.py").write_text(DRIVER)
    environment = os.environ | {"TUNE_GLOBAL_CHECKPOINT_S": "0.2", "RAY_worker_niceness": "0"}
    environment["RAY_raylet_start_wait_time_s"] = "120"
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    driver = subprocess.Popen(
        [sys.executable, "driver.py", str(tmp_path / "results")],
        cwd=tmp_path, env=environment, start_new_session=True,
    )  # fmt: skip
    folder = tmp_path / "results" / "killed"
    deadline = time.monotonic() + 600
    while len(list(folder.glob("*/result.json"))) < 5 and time.monotonic() < deadline:
        assert driver.poll() is None, "the driver ended before it could be killed"
        time.sleep(0.1)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    program = textwrap.dedent(
        """
        import sys
        import ray
        from ray import tune
        from driver import train

        if __name__ == "__main__":
            ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20,
                     log_to_driver=False)
            results = tune.Tuner.restore(sys.argv[1], train).fit()
            xs = [result.config["x"] for result in results]
            print("trials", len(xs), "distinct", len(set(xs)), "errors", results.num_errors)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "trials 12 distinct 12 errors 0" in done.stdout
