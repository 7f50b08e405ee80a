import os
import sys

import optuna
import pytest

# Optuna's conformance suites assert in a module of their own.
pytest.register_assert_rewrite("optuna.testing.pytest_samplers")


def pytest_configure(config):
    # linear_operator, below GPyTorch, meets it while it is imported.
    config.addinivalue_line(
        "filterwarnings", "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
    )


@pytest.fixture(autouse=True)
def _quiet_optuna():
    """Optuna tells of every study and trial at level INFO."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


@pytest.fixture(scope="session")
def local_ray():
    """One local Ray for all sweeps of a test process."""
    import ray

    paths = os.pathsep.join(path for path in sys.path if path)
    # Workers have Ray's low priority otherwise, and starve on a busy machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
    ray.init(
        "local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    yield
    ray.shutdown()
