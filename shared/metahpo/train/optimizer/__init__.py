"""Meta-training of the learned optimizer (docs/learned_optimizer.md).

``optimizer_training`` is the entry; ``inner*`` are the small trainings that it learns from,
``evolution`` its gradients. For maintainers, through ``metahpo train optimizer``.
"""
