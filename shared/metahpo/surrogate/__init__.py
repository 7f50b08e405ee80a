"""Predicting a task from its own trials and from past tasks.

``gp``, ``neural`` and ``curves`` are the models and know nothing of each other; ``networks`` is
what the two networks share; ``scores`` puts the values of different tasks on one scale;
``mixture`` weighs two models by evidence. Importing this alone is quick: torch comes with the
models.
"""
