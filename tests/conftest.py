import optuna
import pytest

# Optuna's conformance suites assert in a module of their own.
pytest.register_assert_rewrite("optuna.testing.pytest_samplers")


@pytest.fixture(autouse=True)
def _quiet_optuna():
    """Optuna tells of every study and trial at level INFO."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)
