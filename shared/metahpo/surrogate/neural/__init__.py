"""The pretrained network: a neural process over tuning data.

``neural_process`` is the network, ``neural_model`` what it predicts for one study,
``standardise`` its view of values, ``pretrained`` its weights. Not for users, who name a file of
weights (docs/surrogate.md).
"""
