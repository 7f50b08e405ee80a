"""Meta-training of what ships trained: ``surrogate``, ``curves``, ``optimizer``.

Here lies what the three share: the steps of a training (``training``, ``reptile``), its folder
with checkpoints and log (``loop``, ``files``), random tensors (``draw``). Public:
``metahpo train``.
Importing this alone is quick.
"""


class TrainingError(ValueError):
    """A meta-training cannot begin or go on; the message says what to do."""
