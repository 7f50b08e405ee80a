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
