"""The pretrained network that continues learning curves (docs/curves.md).

``curve_process`` is the network, ``curve_values`` its view of curves, ``curve_predictions`` what
it predicts. Not for users yet.
"""
