import pytest


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """Keep what the benchmarks compute out of the repository's own cache."""
    from benchmarks import cache

    monkeypatch.setattr(cache, "CACHE", tmp_path / "cache")
