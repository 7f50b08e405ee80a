"""Tuning that remembers, in Optuna: a sampler that learns from past studies.

Public: ``MetaSampler``, ``explain`` and ``recorded_decision``. Inside: ``sampler`` is the shell
around the policy, ``study_history`` finds the past tasks, ``storage`` reads Optuna's storages (a
registered reader), ``study_task`` makes tasks of studies. Where Optuna changes, touch ``_optuna``
(private interfaces) and ``database`` (its tables), and nothing else.
"""

from optuna_meta.explain import explain
from optuna_meta.sampler import MetaSampler
from optuna_meta.trial_attributes import recorded_decision

__all__ = ["MetaSampler", "explain", "recorded_decision"]
