"""A sweep on three Ray nodes of one machine, one of which is killed in the middle."""

import os
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("ray.tune", reason="Ray is not installed: pip install 'metahpo[ray]'")

# In a process of its own: the tests' local Ray must not be met.
PROGRAM = textwrap.dedent(
    """
    import sys, threading, time
    import ray
    from ray import tune
    from ray.cluster_utils import Cluster
    from raytune_meta import MetaSearch

    def train(config):
        for step in range(6):
            time.sleep(0.5)
            tune.report({"loss": (config["x"] - 2) ** 2 + 1 / (step + 1)})

    class KillANode(tune.Callback):
        def __init__(self, cluster, node):
            self.cluster, self.node, self.reports = cluster, node, 0

        def on_trial_result(self, iteration, trials, trial, result, **info):
            self.reports += 1
            if self.reports == 10:
                threading.Thread(
                    target=self.cluster.remove_node, args=(self.node,),
                    kwargs={"allow_graceful": False},
                ).start()
                print("killed a node", flush=True)

    def alive_before(deadline):
        # Ray's health check calls a node dead only some ten seconds after its end.
        while True:
            alive = sum(node["Alive"] for node in ray.nodes())
            if alive == 2 or time.monotonic() > deadline:
                return alive
            time.sleep(0.5)

    if __name__ == "__main__":
        small = dict(object_store_memory=80 * 2**20)
        cluster = Cluster(
            initialize_head=True,
            head_node_args=dict(num_cpus=0, include_dashboard=False, **small),
        )
        try:
            workers = [cluster.add_node(num_cpus=2, **small) for _ in range(2)]
            cluster.wait_for_nodes()
            ray.init(address=cluster.address, log_to_driver=False)
            search = MetaSearch(seed=0)
            analysis = tune.run(
                train, config={"x": tune.uniform(-5, 5)}, metric="loss", mode="min",
                search_alg=search, num_samples=8, max_concurrent_trials=4,
                resources_per_trial={"cpu": 1}, reuse_actors=True, max_failures=3,
                callbacks=[KillANode(cluster, workers[1])], storage_path=sys.argv[1], verbose=0,
            )
            print("nodes alive", alive_before(time.monotonic() + 120))
            print("trials", sorted({trial.status for trial in analysis.trials}))
            task = search._task_and_history()[0]
            print("observed", len(task.observed), "of", len(task.trials))
            print("running", len(task.running))
            curves = {tuple(step for step, _ in trial.curve) for trial in task.trials}
            print("curves", curves)
            retried = sum(trial.num_failures > 0 for trial in analysis.trials)
            print("retried", retried)
        finally:
            ray.shutdown()
            cluster.shutdown()
    """
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_trials_end_and_count_once_where_a_node_dies(tmp_path):
    (tmp_path / "sweep.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "sweep.py", str(tmp_path / "results")],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert "killed a node" in lines
    assert "nodes alive 2" in lines
    assert "trials ['TERMINATED']" in lines
    assert "observed 8 of 8" in lines
    assert "running 0" in lines
    assert "curves {(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)}" in lines
    retried = next(line for line in lines if line.startswith("retried "))
    assert int(retried.split()[1]) >= 1


def _environment() -> dict[str, str]:
    paths = [path for path in sys.path if path]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "RAY_worker_niceness": "0",
        "RAY_raylet_start_wait_time_s": "120",
    }
