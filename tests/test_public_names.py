"""What users import: every public name is there, and importing the packages is quick."""

import importlib
import subprocess
import sys

import pytest

PACKAGES = ("metahpo", "optuna_meta", "raytune_meta")
SLOW = ("torch", "sklearn", "ray", "plotly")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_can_be_imported(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_imports_none_of_the_slow_libraries(package):
    program = f"import sys, {package}; print([name for name in {SLOW} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_name_that_is_not_public_is_an_attribute_error():
    import metahpo

    with pytest.raises(AttributeError, match="no attribute 'recomend'"):
        metahpo.recomend  # noqa: B018
