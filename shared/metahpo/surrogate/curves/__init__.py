"""The pretrained network that extrapolates learning curves (docs/curves.md).

``curve_process`` is the network, ``curve_values`` prepares its inputs, ``curve_predictions``
returns predictions in values. Internal so far; docs/curves.md shows how to call it.
"""
