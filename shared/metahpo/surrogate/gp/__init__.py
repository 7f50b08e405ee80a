"""Gaussian processes: the target-only one, and one with the past tasks for its prior.

``closed_form`` is the model, ``kernel`` its kernel and the fit, ``past_models`` the models of the
past tasks, ``transfer`` the two processes of a study. Not for users.
"""
