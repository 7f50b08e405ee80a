"""Benchmarks on surrogates of real tuning experiments; see ``python -m benchmarks.run --help``."""
