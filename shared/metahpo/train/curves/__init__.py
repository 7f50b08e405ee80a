"""Meta-training of the network that extrapolates learning curves (docs/curves.md).

``curve_training`` is the entry; curves come from a prior (``curve_prior``) and from recorded
trials (``recorded_curves``), in batches of ``curve_batches``; ``curve_measure`` evaluates
predictions. For maintainers, through ``metahpo train curves``.
"""
