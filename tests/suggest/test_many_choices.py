"""Memory grows linearly with the number of choices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# MiB; Python with its libraries takes some 450 of them.
MOST = 1024


@pytest.mark.slow
@pytest.mark.parametrize("surrogate", ["gp", "neural"])
@pytest.mark.parametrize("count", [3000, 10_000])
def test_suggestions_among_many_choices_take_little_memory(count, surrogate):
    """One-hot vectors of 4,000 choices took 7 GB."""
    command = [sys.executable, "-m", "support.many_choices", str(count), surrogate]
    path = os.pathsep.join([str(TESTS), *filter(None, sys.path)])
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert int(run.stdout) < MOST
