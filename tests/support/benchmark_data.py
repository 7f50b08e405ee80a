"""The benchmark data, which are not part of the repository."""

import pytest

from benchmarks.problems import DATA

needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"the benchmark data is not at {DATA} (see benchmarks/README.md)"
)
