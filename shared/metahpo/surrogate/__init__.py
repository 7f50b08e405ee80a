"""Models of a study: predicting it from its own trials and from past tasks.

``contract`` states what each owes, ``registry`` finds them by name, ``pretrained_family`` is the
default. ``gp``, ``neural`` and ``curves`` are models, independent of each other; ``networks`` is
what the two networks share; ``mixture`` weighs two surrogates by evidence. Public:
``metahpo.register_surrogate``. Add a surrogate as a family of its own (docs/extending.md).
Importing this alone is quick: torch comes with the models.
"""
