"""Meta-training and fine-tuning of the surrogate's network (docs/surrogate.md).

``surrogate_training`` and ``fine_tuning`` are the entries; episodes come from a prior (``prior*``)
and from recorded tasks (``recorded``, ``variations``). For maintainers and for users who train on
their own archive, through ``metahpo train surrogate``.
"""
