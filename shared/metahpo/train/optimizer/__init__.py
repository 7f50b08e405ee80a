"""Meta-training of the learned optimizer (docs/learned_optimizer.md).

``optimizer_training`` is the entry and ``meta_training`` its steps; ``inner*`` are the small
trainings on which the optimizer is evaluated, ``objective`` scores them, and ``evolution``
estimates gradients of the scores. For maintainers, through ``metahpo train optimizer``.
"""
