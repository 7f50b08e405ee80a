"""Meta-training of everything the package ships trained.

``surrogate``, ``curves`` and ``optimizer`` each train one model. The modules here are what they
share: training steps (``training``, ``reptile``), runs in a folder (``loop``, ``files``), interval
coverage (``intervals``), random tensors (``draw``). The public entry is ``metahpo train``.
Importing this package alone is quick.
"""


class TrainingError(ValueError):
    """A meta-training cannot start or continue; the message says what to do."""
