"""Meta-training of the network over learning curves (docs/curves.md).

``curve_training`` is the entry, ``curve_episodes`` what it trains on, ``curve_measure`` how good
it is. For maintainers, through ``metahpo train curves``.
"""
