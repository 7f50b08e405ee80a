"""Gaussian processes: the target-only one, and one with the past tasks for its prior.

``gp_family`` fits both to a study, ``gp_surrogate`` is one of them as a surrogate; ``closed_form``
is the model, ``kernel`` its kernel and the fit, ``past_models`` the models of the past tasks,
``transfer`` the parameters of the process that has these for its prior. Not for users.
"""
