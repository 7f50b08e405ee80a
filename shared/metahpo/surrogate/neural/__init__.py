"""The pretrained network: a neural process over tuning data.

``neural_process`` is the network, ``neural_model`` what it predicts for one study,
``neural_surrogate`` that as a surrogate, ``pretrained`` its weights. Not for users, who name a
file of weights (docs/surrogate.md).
"""
