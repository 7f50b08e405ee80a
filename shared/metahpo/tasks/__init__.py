"""Tuning problems: what everything else is written in terms of.

A task has a search space and trials (``task``); a space maps configurations to points of the
unit cube and back (``space``, ``distributions``, ``conditions``); ``alignment`` shows a task in
another task's space. Public: what ``metahpo`` exports. Points, NaN where a hyperparameter is
inactive, are the only form in which models see configurations.
"""
