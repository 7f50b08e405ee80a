"""Meta-training (see docs/learned_optimizer.md). Importing this alone is quick."""


class TrainingError(ValueError):
    """A meta-training cannot begin or go on; the message says what to do."""
