"""Tuning that remembers, for Ray Tune: past experiments as tasks."""

from raytune_meta.experiment import read_experiment

__all__ = ["read_experiment"]
