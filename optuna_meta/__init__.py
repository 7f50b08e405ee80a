"""Tuning that remembers, in Optuna: a sampler that learns from past studies."""

from optuna_meta.explain import explain
from optuna_meta.sampler import MetaSampler

__all__ = ["MetaSampler", "explain"]
